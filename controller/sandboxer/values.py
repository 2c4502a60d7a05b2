"""
Text to plain JSON values, with the line and column of every field; YAML or JSON.

What this refuses, before any value is built: anchors, aliases and tags (they let ten lines become
gigabytes or Python objects), duplicate keys (the last would win silently), nesting deeper than
`MAX_DEPTH`, documents larger than `MAX_DOCUMENT_BYTES`.
Plain scalars become what JSON would call them (`true`, `false`, `null`, integers, decimal
fractions) and text otherwise: YAML 1.1 would turn `no` into False, `22:22` into 1342 and `0777`
into 511. Nothing here knows what a document means; that is decided by `sandboxer.sources.documents`
and `sandboxer.api.bodies`.

Design notes: PyYAML's constructors are not used at all. They raise KeyError, AttributeError,
IndexError and ValueError for hostile tags (measured with PyYAML 6.0), and they forget positions.
Reading libyaml's events costs about as much as constructing and needs no second pass.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_TEXT_BYTES = 4 * 2**20
"""Bytes of one file: 1,000 full manifests are 0.8 MB; 4 MiB takes about a second to parse."""
TOO_LARGE = f"is larger than {MAX_TEXT_BYTES // 2**20} MiB; split it into several files"
MAX_DOCUMENT_BYTES = 256 * 2**10
"""Bytes of one document; Kubernetes bounds annotations alike, and no real manifest comes near."""
MAX_DEPTH = 32
"""Nested collections; the deepest field of a kind is at 8, a profile's inputsSchema at perhaps 20."""
MAX_INTEGER = 2**63
"""Integers are stored as JSON and read by programs with 64-bit integers."""

# libyaml is ten times faster; the pure parser raises the same errors and yields the same events.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_CONSTANTS: dict[str, bool | None] = {
    "true": True, "false": False, "null": None, "~": None, "": None,
}  # fmt: skip

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at one place of the text; line and column count from 1."""

    line: int
    column: int
    path: FieldPath
    message: str


@dataclass(slots=True)
class Tree:
    """One document: its value and where each of its fields stands."""

    value: Any
    line: int
    column: int
    marks: dict[FieldPath, tuple[int, int]] = field(default_factory=dict)
    """Line and column by path; empty for JSON that only a JSON parser could read."""

    def place(self, path: FieldPath) -> tuple[int, int]:
        """Return line and column of the field at *path*, or of the nearest one that holds it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return self.line, self.column


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """Reading cannot go on; the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def parse_text(text: str) -> tuple[list[Tree], list[Finding]]:
    """
    Return the non-empty documents of *text* and everything that is wrong with it.

    Documents that stand before a syntax error are returned too, so that their own mistakes can be
    shown together with it; with any finding, none of them may be used.
    """
    if finding := _unfit(text):
        return [], [finding]
    trees, findings = _parse_yaml(text)
    if findings and text.lstrip().startswith(("{", "[")) and (tree := _parse_json(text)):
        # JSON that is no YAML: tabs as indentation, escaped surrogate pairs.
        return [tree], []
    return trees, findings


def _unfit(text: str) -> Finding | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return Finding(0, 0, (), "is not valid Unicode text")
    if size > MAX_TEXT_BYTES:
        return Finding(0, 0, (), TOO_LARGE)
    return None


def _parse_yaml(text: str) -> tuple[list[Tree], list[Finding]]:
    builder = _Builder()
    try:
        loader = _Loader(text)
        try:
            while loader.check_event():
                builder.take(loader.get_event())
        finally:
            loader.dispose()
    except _Unreadable as err:
        builder.findings.append(err.finding)
    except yaml.MarkedYAMLError as err:
        builder.findings.append(_syntax_finding(err))
    except yaml.YAMLError as err:  # ReaderError: characters that YAML does not allow
        builder.findings.append(_character_finding(err, text))
    return builder.trees, builder.findings


def _syntax_finding(err: yaml.MarkedYAMLError) -> Finding:
    mark = err.problem_mark or err.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    context = f"{err.context}: " if err.context else ""
    return Finding(line, column, (), f"is not valid YAML: {context}{err.problem}")


def _character_finding(err: yaml.YAMLError, text: str) -> Finding:
    position, reason = getattr(err, "position", 0), getattr(err, "reason", str(err))
    # libyaml counts bytes, the pure parser characters; for a line number both are near enough.
    line = text.encode().count(b"\n", 0, position) + 1
    return Finding(line, 0, (), f"is not valid YAML: {reason}")


def _parse_json(text: str) -> Tree | None:
    """Return the value of strict JSON, or None when it is not, or breaks one of our limits."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=number,
            parse_float=number,
            parse_int=number,
        )
        fits = len(text.encode()) <= MAX_DOCUMENT_BYTES and _depth(value) <= MAX_DEPTH
    except (ValueError, RecursionError):
        return None
    return Tree(value, 1, 1) if fits else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def number(text: str) -> int | float:
    """Return the number *text* stands for; ValueError when no 64-bit program could hold it."""
    if _INTEGER.fullmatch(text):
        # NOTE: the length is looked at first, int() of a megabyte of digits takes minutes.
        if len(text) <= len(str(-MAX_INTEGER)) and -MAX_INTEGER <= int(text) < MAX_INTEGER:
            return int(text)
    elif math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text[:40]} is too large a number")


def _depth(value: Any) -> int:
    # json.loads has bounded the nesting by the interpreter's recursion limit already.
    children = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, children), default=0) if isinstance(value, (dict, list)) else 0


@dataclass(slots=True)
class _Frame:
    """A collection that is still open; `key` is the key whose value comes next."""

    value: dict[str, Any] | list[Any]
    path: FieldPath
    key: str | None = None


class _Builder:
    """Takes parser events in order and builds trees."""

    def __init__(self) -> None:
        self.trees: list[Tree] = []
        self.findings: list[Finding] = []
        self._stack: list[_Frame] = []
        self._tree = Tree(None, 0, 0)
        self._start = 0
        self._handlers = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document_start,
            yaml.DocumentEndEvent: self._document_end,
        }

    def take(self, event: Any) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _document_start(self, event: Any) -> None:
        self._start = event.start_mark.index
        self._tree = Tree(None, 0, 0)

    def _document_end(self, event: Any) -> None:
        # Characters instead of bytes: at most four times the bound, which is about order only.
        if event.end_mark.index - self._start > MAX_DOCUMENT_BYTES:
            message = f"is larger than {MAX_DOCUMENT_BYTES // 2**10} KiB"
            self.findings.append(Finding(self._tree.line, 1, (), f"this document {message}"))
        elif self._tree.value is not None:
            self.trees.append(self._tree)

    def _scalar(self, event: Any) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(event, frame, frame.value)
            return
        path = self._path(event)
        self._check_properties(event, path)
        plain = event.implicit[0] and not event.style
        self._put(self._plain(event, path) if plain else event.value)

    def _key(self, event: Any, frame: _Frame, mapping: dict[str, Any]) -> None:
        key = event.value
        path = (*frame.path, key)
        self._check_properties(event, path)
        mark = event.start_mark
        if key in mapping:
            first = self._tree.marks[path][0]
            self._find(event, path, f"is given twice; it stands in line {first} already")
        else:
            self._tree.marks[path] = (mark.line + 1, mark.column + 1)
        frame.key = key

    def _plain(self, event: Any, path: FieldPath) -> Any:
        text: str = event.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if not _NUMBER.fullmatch(text):
            return text
        try:
            return number(text)
        except ValueError as err:
            self._find(event, path, f"{err}; if it is text, put it in quotes")
            return None

    def _open(self, event: Any) -> None:
        path = self._path(event)
        self._check_properties(event, path)
        if len(self._stack) >= MAX_DEPTH:
            message = f"is nested deeper than {MAX_DEPTH} levels"
            raise _Unreadable(self._finding(event, path, message))
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(value)
        self._stack.append(_Frame(value, path))

    def _close(self, _event: Any) -> None:
        self._stack.pop()

    def _alias(self, event: Any) -> None:
        path = self._path(event)
        self._find(event, path, f"*{event.anchor[:40]}: aliases are not allowed, write it out")
        self._put(None)

    def _path(self, event: Any) -> FieldPath:
        """Return the path of the value that begins here, and note where it stands."""
        mark = event.start_mark
        if not self._stack:
            self._tree.line, self._tree.column = mark.line + 1, mark.column + 1
            return ()
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            path: FieldPath = (*frame.path, len(frame.value))
            self._tree.marks[path] = (mark.line + 1, mark.column + 1)
            return path
        if frame.key is None:
            raise _Unreadable(self._finding(event, frame.path, "has a key that is not text"))
        return (*frame.path, frame.key)

    def _put(self, value: Any) -> None:
        if not self._stack:
            self._tree.value = value
            return
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            frame.value.append(value)
        else:
            assert frame.key is not None
            frame.value[frame.key] = value
            frame.key = None

    def _check_properties(self, event: Any, path: FieldPath) -> None:
        if event.anchor is not None:
            self._find(event, path, f"&{event.anchor[:40]}: anchors are not allowed")
        if event.tag is not None:
            self._find(event, path, f"{event.tag[:40]}: tags are not allowed")

    def _find(self, event: Any, path: FieldPath, message: str) -> None:
        self.findings.append(self._finding(event, path, message))

    @staticmethod
    def _finding(event: Any, path: FieldPath, message: str) -> Finding:
        mark = event.start_mark
        return Finding(mark.line + 1, mark.column + 1, path, message)
