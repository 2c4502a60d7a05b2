"""
The owners of an object: `metadata.managedFields`, read and written.

Source:
    kubernetes/apimachinery, pkg/util/managedfields/internal: managedfields.go, capmanagers.go,
    stripmeta.go; kubernetes/apiserver, pkg/endpoints/handlers/create.go (names from User-Agents).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from sandboxer.errors import InvalidSpecError
from sandboxer.fields import elements
from sandboxer.fields.sets import EMPTY, HERE, FieldSet
from sandboxer.kinds.meta import FINALIZER

Entry = dict[str, Any]
"""One entry of managedFields as JSON."""

# Bytes of a manager's name. Source: Kubernetes `FieldManagerMaxLength`.
MAX_NAME_BYTES: Final = 128

# Entries of operation Update that are kept apart. Source: `DefaultMaxUpdateManagers`.
MAX_UPDATERS: Final = 10

ANCIENT: Final = "ancient-changes"
"""Name under which the oldest updates are kept together."""

_STATUS: Final = elements.field("status")
_METADATA: Final = elements.field("metadata")

# Of metadata: they name the object, or only the server writes them.
_SERVER_OWNED: Final = (
    "name", "generateName", "namespace", "uid", "resourceVersion", "generation",
    "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
    "managedFields",
)  # fmt: skip

# The controller's finalizer too: a printed object names it, and whoever applied that and leaves it
# out later would take it away, and with it the teardown.
_NEVER_OWNED: Final = FieldSet(
    children={
        elements.field("apiVersion"): HERE,
        elements.field("kind"): HERE,
        _METADATA: FieldSet(
            member=True,
            children={
                **{elements.field(name): HERE for name in _SERVER_OWNED},
                elements.field("finalizers"): FieldSet(children={elements.value(FINALIZER): HERE}),
            },
        ),
    }
)


class Owner(NamedTuple):
    """Who owns: what tells two entries apart."""

    name: str
    operation: Literal["Apply", "Update"]
    api_version: str
    """Empty for `Apply`: an applier is the same in every version."""
    subresource: str


@dataclass(frozen=True, slots=True)
class Holding:
    """What one owner has."""

    fields: FieldSet
    api_version: str
    time: str
    """RFC 3339; empty when it was not given."""


Owners = Mapping[Owner, Holding]


def applier(name: str, subresource: str) -> Owner:
    """Return who *name* is in an apply."""
    return Owner(name, "Apply", "", subresource)


def updater(name: str, api_version: str, subresource: str) -> Owner:
    """Return who *name* is in any other write."""
    return Owner(name, "Update", api_version, subresource)


def decode(entries: Any) -> Owners:
    """
    Return the owners that managedFields name.

    Raises:
        ValueError: It is no list of entries.
    """
    if not isinstance(entries, list):
        msg = "managedFields is no list"
        raise ValueError(msg)  # noqa: TRY004 - bad content of a document, as all of it is here
    return dict(_decoded(entry) for entry in entries)


def encode(owners: Owners) -> list[Entry]:
    """Return managedFields in Kubernetes' order."""
    ordered = sorted(
        owners.items(),
        key=lambda item: (
            item[0].operation, item[1].time, item[0].name, item[1].api_version, item[0].subresource
        ),
    )  # fmt: skip
    return [_encoded(owner, holding) for owner, holding in ordered]


def ownable(fields: FieldSet, subresource: str) -> FieldSet:
    """Return the part of *fields* that a write to this (sub)resource can own."""
    if subresource:
        return FieldSet(
            children={step: n for step, n in fields.children.items() if step == _STATUS}
        )
    return fields.without(FieldSet(children={_STATUS: HERE})) - _NEVER_OWNED


def held(owners: Owners, owner: Owner, fields: FieldSet, api_version: str, now: str) -> Owners:
    """Return *owners* with exactly *fields* for *owner*, its time kept when it had the same."""
    others = {known: holding for known, holding in owners.items() if known != owner}
    if not fields:
        return others
    before = owners.get(owner)
    time = before.time if before is not None and before.fields == fields else now
    return {**others, owner: Holding(fields, api_version, time)}


def losing(owners: Owners, winner: Owner, written: FieldSet, removed: FieldSet) -> Owners:
    """Return *owners* after *winner* wrote and removed these fields; who has none left is gone."""
    left: dict[Owner, Holding] = {}
    for owner, holding in owners.items():
        if owner == winner:
            left[owner] = holding
        elif fields := (holding.fields - written).without(removed):
            left[owner] = replace(holding, fields=fields)
    return left


def all_fields(holdings: Iterable[Holding]) -> FieldSet:
    """Return what is in any of them."""
    total = EMPTY
    for holding in holdings:
        total = total | holding.fields
    return total


def capped(owners: Owners) -> Owners:
    """Return *owners* with at most `MAX_UPDATERS` updaters, the oldest put together."""
    updaters = sorted(
        (item for item in owners.items() if item[0].operation == "Update"),
        key=lambda item: (item[0].name != ANCIENT, item[1].time, item[0]),
    )
    surplus = len(updaters) - MAX_UPDATERS
    if surplus <= 0:
        return owners
    # One more than there are too many, because what they become is an entry again.
    oldest = dict(updaters[: surplus + 1])
    left = {owner: holding for owner, holding in owners.items() if owner not in oldest}
    newest = updaters[surplus][1]
    together = Holding(all_fields(oldest.values()), newest.api_version, newest.time)
    return {**left, updater(ANCIENT, newest.api_version, ""): together}


def rfc3339(moment: datetime) -> str:
    """Return a time as entries have it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def manager_name(field_manager: str, user_agent: str) -> str:
    """
    Return the name under which a client's fields are noted.

    Args:
        field_manager: What the client calls itself (`?fieldManager=`), or empty.
        user_agent: Its User-Agent; what stands before the first `/` is its name then.

    Raises:
        InvalidSpecError: *field_manager* is too long or cannot be printed.
    """
    if not field_manager:
        printable = "".join(c for c in user_agent.partition("/")[0] if c.isprintable())
        return printable.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "unknown"
    if not field_manager.isprintable():
        message = "should only contain printable characters"
    elif len(field_manager.encode()) > MAX_NAME_BYTES:
        message = f"may not be more than {MAX_NAME_BYTES} bytes"
    else:
        return field_manager
    raise InvalidSpecError(f"fieldManager: Invalid value: {message}.", field="fieldManager")


def _decoded(entry: Any) -> tuple[Owner, Holding]:
    if not isinstance(entry, dict):
        msg = "an entry of managedFields is a map"
        raise ValueError(msg)  # noqa: TRY004 - see `decode`
    name, version, time, subresource = (
        _text(entry.get(key)) for key in ("manager", "apiVersion", "time", "subresource")
    )
    operation = entry.get("operation")
    if operation not in ("Apply", "Update") or not version:
        msg = "an entry of managedFields names its operation and apiVersion"
        raise ValueError(msg)
    owner = Owner(name, operation, "" if operation == "Apply" else version, subresource)
    return owner, Holding(FieldSet.from_json(entry.get("fieldsV1") or {}), version, time)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        msg = "an entry of managedFields has a value that is no text"
        raise ValueError(msg)  # noqa: TRY004 - see `decode`
    return value


def _encoded(owner: Owner, holding: Holding) -> Entry:
    entry: Entry = {
        "manager": owner.name,
        "operation": owner.operation,
        "apiVersion": holding.api_version,
        "time": holding.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": holding.fields.to_json(),
        "subresource": owner.subresource,
    }
    return {name: value for name, value in entry.items() if value != ""}
