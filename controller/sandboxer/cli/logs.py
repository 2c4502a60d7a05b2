"""
How log records become lines: text for people, JSON lines for collectors.

Messages are constant sentences and values are fields (`extra=`), so both forms can be searched.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

LogFormat = Literal["text", "json"]

# What every record has; the rest are the fields of one message.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


class TextFormatter(logging.Formatter):
    """`time LEVEL message key=value …`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of one record."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {_one_line(record.getMessage() + fields)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JSONFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_for_command(path: Path) -> None:
    """Keep warnings of a command's own reconciling out of its output: they go to *path*, 0600."""
    path.touch(mode=0o600)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def configure(log_format: LogFormat, *, verbose: bool) -> None:
    """Send the log to stderr; *verbose* adds debug messages of sandboxer, not of its libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("sandboxer").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("sandboxer_extensions").setLevel(logging.DEBUG if verbose else logging.INFO)
