"""
Read what a probe script printed: strict, bounded, and never trusting the machine.

An answer is the marker line (`sandboxer-pulse/1`), then `key=value` lines of printable ASCII, each
key once, and `end=1` at last. What a login shell prints before the marker is ignored. Anything
else is an error of that host only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from sandboxer.errors import TransientError

# Bytes; a real answer has below 4 kB, the rest is room for a login shell's greeting.
MAX_ANSWER_BYTES = 256 * 1024

# Characters; the scripts cut values at 400.
_MAX_VALUE = 500

_LINE = re.compile(r"([a-z][a-z0-9_.-]{0,40})=([ -~]*)", re.ASCII)
_INTEGER = re.compile(r"[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)


class Answer:
    """
    The checked lines of one answer.

    Args:
        host: Name of the Host, for messages.
        values: By key, in no order.
    """

    def __init__(self, host: str, values: Mapping[str, str]) -> None:
        self._host = host
        self._values = values

    def text(self, key: str) -> str:
        """Return the value, or an empty string where the key is optional and missing."""
        return self._values.get(key, "")

    def integer(self, key: str) -> int:
        """Return a whole number of at most 18 digits."""
        return int(self._number(key, _INTEGER))

    def decimal(self, key: str) -> float:
        """Return a number with or without decimals."""
        return float(self._number(key, _DECIMAL))

    def group(self, prefix: str) -> dict[str, str]:
        """Return the values whose key starts with *prefix*, by the rest of the key."""
        return {
            key.removeprefix(prefix): value
            for key, value in self._values.items()
            if key.startswith(prefix)
        }

    def _number(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self.text(key)
        if not pattern.fullmatch(value):
            raise garbage(self._host, f"{key} is {value[:60]!r}, not a number")
        return value


def read_answer(
    host: str,
    output: bytes,
    *,
    marker: str,
    required: Collection[str],
    optional: Collection[str] = (),
) -> Answer:
    """
    Check the output of a probe script.

    Args:
        host: Name of the Host, for messages.
        output: Everything it printed.
        marker: Line at which the answer begins.
        required: Keys that must be there.
        optional: Keys that may be there; one that ends in a dot allows every key below it.

    Raises:
        TransientError: It is not an answer of this form.
    """
    if len(output) > MAX_ANSWER_BYTES:
        raise garbage(host, f"it is longer than {MAX_ANSWER_BYTES} bytes")
    _noise, found, body = ("\n" + output.decode("ascii", "replace")).partition(f"\n{marker}\n")
    if not found:
        raise garbage(host, f"the line {marker} is missing")
    body, ended, rest = body.partition("end=1\n")
    if not ended or rest or (body and not body.endswith("\n")):
        raise garbage(host, "it is incomplete")
    values = _values(host, body.split("\n")[:-1])
    _check_keys(host, values, required, optional)
    return Answer(host, values)


def garbage(host: str, why: str) -> TransientError:
    """Return the error for an answer that cannot be used."""
    return TransientError(
        f"The probe of host {host} gave an answer that cannot be read: {why}.",
        reason="ProbeUnreadable",
        remedy="Run `sh -c true` over SSH there; its login shell must not print or run anything.",
    )


def _values(host: str, lines: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or len(match[2]) > _MAX_VALUE:
            raise garbage(host, f"line {line[:60]!r} is not key=value")
        if match[1] in values:
            raise garbage(host, f"{match[1]} is given twice")
        values[match[1]] = match[2].strip()
    return values


def _check_keys(
    host: str, values: Mapping[str, str], required: Collection[str], optional: Collection[str]
) -> None:
    if missing := [key for key in required if key not in values]:
        raise garbage(host, f"{missing[0]} is missing")
    groups = tuple(key for key in optional if key.endswith("."))
    for key in values:
        if key not in required and key not in optional and not key.startswith(groups or ("\0",)):
            raise garbage(host, f"{key} is not a known key")
