"""
The query of GET, LIST and WATCH, checked as Kubernetes checks it.

Source:
    `ListOptions` of meta/v1 and apimachinery's validation of it, v1.32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.datastructures import QueryParams

from sandboxer.api.answers import StatusError
from sandboxer.api.refusals import Cause, cause, invalid_options

# Digits of a number that fits Kubernetes' int64; longer ones are refused before they are read.
_MAX_DIGITS: Final = 18

_MATCHES: Final = ("Exact", "NotOlderThan")
_MATCH: Final = "resourceVersionMatch"


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What a client asks of a collection."""

    watch: bool
    limit: int
    """Objects of one page; 0 means all."""
    continue_: str
    revision: int | None
    """Given resourceVersion; None when there was none, 0 when any will do."""
    match: str
    """`Exact`, `NotOlderThan` or empty."""
    label_selector: str
    field_selector: str
    bookmarks: bool
    timeout_s: int
    """0 when the server may choose."""
    send_initial: bool | None
    include_object: str
    """For tables: `None`, `Metadata` or `Object`."""


def read_options(query: QueryParams) -> ListOptions:
    """
    Return the options of a query.

    Raises:
        StatusError: 400 for what cannot be read, 422 for what does not go together.
    """
    return _checked(query) if query else _NOTHING_ASKED


def _checked(query: QueryParams) -> ListOptions:
    options = ListOptions(
        watch=_flag(query, "watch") or False,
        limit=max(0, _number(query, "limit")),
        continue_=query.get("continue", ""),
        revision=_number(query, "resourceVersion") if query.get("resourceVersion") else None,
        match=query.get(_MATCH, ""),
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        bookmarks=_flag(query, "allowWatchBookmarks") or False,
        timeout_s=max(0, _number(query, "timeoutSeconds")),
        send_initial=_flag(query, "sendInitialEvents"),
        include_object=query.get("includeObject") or "Metadata",
    )
    if options.include_object not in ("None", "Metadata", "Object"):
        raise StatusError(400, f'unrecognized includeObject value: "{options.include_object[:64]}"')
    if causes := _watch_causes(options) if options.watch else _list_causes(options):
        raise invalid_options("ListOptions", causes)
    if options.continue_ and options.revision:
        raise StatusError(400, "specifying resource version is not allowed when using continue")
    return options


def _flag(query: QueryParams, name: str) -> bool | None:
    value = query.get(name)
    return None if value is None else value.lower() not in ("false", "0")


def _number(query: QueryParams, name: str) -> int:
    text = query.get(name) or "0"
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise StatusError(400, f"invalid {name}: {text[:64]!r} is not a number")
    if name == "resourceVersion" and digits != text:
        raise StatusError(400, f"invalid {name}: {text[:64]!r} is negative")
    return int(text)


def _list_causes(options: ListOptions) -> list[Cause]:
    causes = []
    if options.match and options.revision is None:
        causes.append(
            _forbidden(_MATCH, f"{_MATCH} is forbidden unless resourceVersion is provided")
        )
    if options.match and options.continue_:
        causes.append(_forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided"))
    if options.match and options.match not in _MATCHES:
        causes.append(_unknown_match(options.match, (*_MATCHES, "")))
    if options.match == "Exact" and options.revision == 0:
        causes.append(_forbidden(_MATCH, f'{_MATCH} "exact" is forbidden for resourceVersion "0"'))
    if options.send_initial is not None:
        causes.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_causes(options: ListOptions) -> list[Cause]:
    causes = []
    if options.send_initial is not None and options.match != "NotOlderThan":
        causes.append(
            _forbidden(_MATCH, f"sendInitialEvents requires setting {_MATCH} to NotOlderThan")
        )
    if options.match and options.send_initial is None:
        message = f"{_MATCH} is forbidden for watch unless sendInitialEvents is provided"
        causes.append(_forbidden(_MATCH, message))
    if options.match and options.match != "NotOlderThan":
        causes.append(_unknown_match(options.match, ("NotOlderThan",)))
    if options.match and options.continue_:
        causes.append(_forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided"))
    return causes


def _forbidden(field: str, message: str) -> Cause:
    return cause("Forbidden", field, f"Forbidden: {message}")


def _unknown_match(match: str, supported: tuple[str, ...]) -> Cause:
    names = ", ".join(f'"{name}"' for name in supported)
    message = f'Unsupported value: "{match[:64]}": supported values: {names}'
    return cause("NotSupported", _MATCH, message)


# Of a request without a query, as most GETs are: reading eleven absent names takes a sixth of one.
_NOTHING_ASKED: Final = _checked(QueryParams())
