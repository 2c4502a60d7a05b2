"""
Reading a compose file that somebody else wrote, into plain JSON values.

PyYAML only splits the text into events; the values are made here, because its constructors read
YAML 1.1 (`22:22` is 1342, `no` is false), crash on odd tags, keep the last of two equal keys, and
expand nine lines of aliases into gigabytes (measured, `docs/compose.md`). Scalars follow the core
schema of YAML 1.2, as the compose specification asks.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from sandboxer.errors import InvalidSpecError

# Bytes. The largest compose files found in public repositories are around 60 KiB.
MAX_DOCUMENT_BYTES = 256 * 1024
# Levels of nesting; a healthcheck inside deploy inside a service needs 8.
MAX_DEPTH = 32
# Values after aliases have been expanded: what the tool on the host will have to hold.
MAX_VALUES = 20_000
# Uses of anchors; each may copy as many keys as the file has (`<<: [*a, *a, …]`).
MAX_ALIASES = 256

# Leading zeros stay text: tools disagree whether `0777` is octal.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{1,17}", re.ASCII)
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_document(text: str, *, origin: str, field: str) -> dict[str, Any]:
    """
    Return the mapping in *text*: string keys, JSON values, aliases and `<<` resolved.

    Args:
        text: The file.
        origin: Name of the file, for messages.
        field: Field of the manifest that led here.

    Raises:
        InvalidSpecError: It is no single YAML mapping, or it is larger, deeper or stranger
            than a compose file has reason to be; the message names the line.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_DOCUMENT_BYTES:
        raise InvalidSpecError(
            f"{origin} is larger than {MAX_DOCUMENT_BYTES // 1024} KiB.", field=field
        )
    try:
        value = _Builder().build(text)
    except _RefusedError as refused:
        raise InvalidSpecError(f"{origin}, {refused}.", field=field) from None
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be decoded"
        raise InvalidSpecError(f"{origin}{line} is not YAML: {problem}.", field=field) from None
    if not isinstance(value, dict):
        raise InvalidSpecError(f"{origin} is not a mapping with `services`.", field=field)
    return value


class _RefusedError(Exception):
    """The text is YAML and still refused; the message starts with the line."""

    def __init__(self, event: yaml.Event | None, problem: str) -> None:
        line = event.start_mark.line + 1 if event and event.start_mark else 1
        super().__init__(f"line {line}: {problem}")


class _Frame:
    """A sequence or mapping that is still open."""

    def __init__(self, container: dict[str, Any] | list[Any]) -> None:
        self.container = container
        self.key: str | None = None
        self.merged: list[Any] = []


class _Builder:
    """Makes values from events, without recursion."""

    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._anchors: dict[str, Any] = {}
        self._sizes: dict[int, int] = {}
        self._kept: list[Any] = []
        self._root: Any = None
        self._documents = 0
        self._aliases = 0

    def build(self, text: str) -> Any:
        for event in yaml.parse(text, Loader=_LOADER):
            self._take(event)
        if _size(self._root, self._sizes) > MAX_VALUES:
            raise _RefusedError(None, f"more than {MAX_VALUES} values once aliases are expanded")
        return self._root

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _RefusedError(event, "a second document begins, one is allowed")
        elif isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise _RefusedError(event, f"more than {MAX_ALIASES} aliases")
            if event.anchor not in self._anchors:
                raise _RefusedError(event, f"alias *{event.anchor} has no anchor before it")
            self._put(event, self._anchors[event.anchor])
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event)
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_tag(event)
            if len(self._frames) >= MAX_DEPTH:
                raise _RefusedError(event, f"nested deeper than {MAX_DEPTH} levels")
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close(event)

    def _refuse_tag(self, event: Any) -> None:
        # NOTE: `!` alone only forces text; every other explicit tag runs code or edits a merge.
        if event.tag is not None and event.tag not in {"!", "tag:yaml.org,2002:str"}:
            raise _RefusedError(event, f"the tag {event.tag[:40]!r} is not supported")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            if event.value != "<<" and event.value in frame.container:
                raise _RefusedError(event, f"the key {event.value[:40]!r} stands there twice")
            frame.key = event.value
            return
        value: Any = _plain(event.value) if event.implicit[0] else event.value
        self._remember(event, value)
        self._put(event, value)

    def _open(self, event: Any) -> None:
        container: dict[str, Any] | list[Any] = (
            {} if isinstance(event, yaml.MappingStartEvent) else []
        )
        if self._frames and self._key_expected():
            raise _RefusedError(event, "a list or mapping stands where a key is expected")
        self._frames.append(_Frame(container))
        # NOTE: remembered when it is closed, so an alias inside itself has no anchor yet.
        if event.anchor:
            self._kept.append((container, event.anchor))

    def _close(self, event: yaml.Event) -> None:
        frame = self._frames.pop()
        if isinstance(frame.container, dict):
            for merged in frame.merged:
                for key, value in merged.items():
                    frame.container.setdefault(key, value)
        for container, anchor in self._kept:
            if container is frame.container:
                self._anchors[anchor] = container
        self._put(event, frame.container)

    def _key_expected(self) -> bool:
        frame = self._frames[-1]
        return isinstance(frame.container, dict) and frame.key is None

    def _remember(self, event: yaml.ScalarEvent, value: Any) -> None:
        if event.anchor:
            self._anchors[event.anchor] = value

    def _put(self, event: yaml.Event, value: Any) -> None:
        if not self._frames:
            self._root = value
            return
        frame = self._frames[-1]
        if isinstance(frame.container, list):
            frame.container.append(value)
        elif frame.key is None:
            raise _RefusedError(event, "an alias stands where a key is expected")
        else:
            if frame.key == "<<":
                parts = value if isinstance(value, list) else [value]
                if not all(isinstance(part, dict) for part in parts):
                    raise _RefusedError(event, "`<<` merges mappings only")
                frame.merged.extend(parts)
            else:
                frame.container[frame.key] = value
            frame.key = None


def _plain(text: str) -> Any:
    """Return the value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _size(value: Any, sizes: dict[int, int]) -> int:
    """Return how many values *value* holds when every alias is written out; each object once."""
    if not isinstance(value, dict | list):
        return 1
    known = sizes.get(id(value))
    if known is None:
        children = value.values() if isinstance(value, dict) else value
        known = 1 + sum(_size(child, sizes) for child in children)
        sizes[id(value)] = known
    return known
