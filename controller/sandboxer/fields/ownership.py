"""
Apply and update: what becomes of a document and of its owners in one write.

Source:
    kubernetes/apimachinery, pkg/util/managedfields/internal: fieldmanager.go, skipnonapplied.go,
    managedfieldsupdater.go; kubernetes-sigs/structured-merge-diff, merge/update.go.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from sandboxer.errors import InvalidSpecError
from sandboxer.fields import last_applied, managers
from sandboxer.fields.comparing import NO_CHANGES, compare, same
from sandboxer.fields.conflicts import Cause, FieldConflictError
from sandboxer.fields.managers import Owner, Owners
from sandboxer.fields.merging import merged, pruned
from sandboxer.fields.parts import check_keys, fields_of, without_nulls
from sandboxer.fields.sets import EMPTY, FieldSet
from sandboxer.fields.shapes import Shape, shape_of

Document = dict[str, Any]

BEFORE_FIRST_APPLY: Final = "before-first-apply"
"""Who owns what an object had when nobody had noted owners yet."""

# What of a config's metadata is the server's to say; live's is kept whatever the config says.
_SERVER_OWNED: Final = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "selfLink", "generateName",
)  # fmt: skip


class Merged(NamedTuple):
    """What an apply makes of an object."""

    document: Document
    """The whole document, its managedFields included."""
    changed: bool
    """Whether it differs from what is stored, in content or owners."""


def apply(
    live: Document | None,
    config: Document,
    *,
    manager: str,
    force: bool,
    now: datetime,
    subresource: str = "",
) -> Merged:
    """
    Return *live* with what *config* says, which *manager* owns from then on.

    Args:
        live: The stored document, None when there is none.
        config: What the client sent, without defaults.
        manager: Who applies.
        force: Take fields that others own and that would change.
        now: Time of the write.
        subresource: `status`, or empty for the object itself.

    Raises:
        FieldConflictError: Others own fields that would change, and *force* is not set.
        InvalidSpecError: *config* has managedFields, or items of a list without (different) keys.
    """
    shape, time, version = shape_of(config), managers.rfc3339(now), _version(config)
    before = _content(live)
    wanted = _declared(config, shape, subresource)
    said = fields_of(wanted, shape)
    stored = _stored_owners(live)
    owners = stored or _owners_before_apply(live, subresource, time)
    myself = managers.applier(manager, subresource)
    after = merged(before, wanted, shape)
    mine = managers.ownable(said, subresource)
    if (known := owners.get(myself)) and known.fields != mine:
        others = managers.all_fields(holding for o, holding in owners.items() if o != myself)
        after = pruned(after, shape, before=known.fields, owned=others | said)
    # Only other owners make it matter what changes; most objects have none.
    changes = compare(before, after, shape) if owners.keys() - {myself} else NO_CHANGES
    if not force:
        allowed = last_applied.unchanged_fields(before, shape, manager)
        _check_conflicts(owners, myself, changes.written - allowed)
    left = managers.losing(owners, myself, *changes)
    owners = managers.held(left, myself, mine, version, time)
    after = last_applied.kept_in_step(after, config, manager)
    if live is not None and owners == stored and same(before, after):
        return Merged(live, changed=False)
    return Merged(_with_owners(after, owners), changed=True)


def update(
    live: Document | None,
    new: Document,
    *,
    manager: str,
    now: datetime,
    subresource: str = "",
) -> list[Document]:
    """
    Return the managedFields of *new* after a write that is no apply.

    Args:
        live: The stored document, None for a create.
        new: What it becomes, defaults filled in; see the package for its own managedFields.
        manager: Who writes.
        now: Time of the write.
        subresource: `status`, or empty for the object itself.
    """
    shape, time, version = shape_of(new), managers.rfc3339(now), _version(new)
    owners = _owners_before_update(live, new, subresource)
    if live is not None and not owners:
        # Nobody noted whose the rest is, so the owner of what changed now would say little.
        return []
    changes = compare(_content(live), _content(new), shape)
    written, removed = (managers.ownable(fields, subresource) for fields in changes)
    myself = managers.updater(manager, version, subresource)
    left = managers.losing(owners, myself, written, removed)
    had = left[myself].fields if myself in left else EMPTY
    mine = had.without(removed) | written
    return managers.encode(managers.capped(managers.held(left, myself, mine, version, time)))


def _version(document: Document) -> str:
    return str(document.get("apiVersion", ""))


def _content(document: Document | None) -> Document:
    """Return a document without its owners; nothing at all for an object that is not there."""
    if document is None:
        return {}
    metadata = {k: v for k, v in _metadata(document).items() if k != "managedFields"}
    return {**document, "metadata": metadata}


def _metadata(document: Document) -> Document:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        raise InvalidSpecError("metadata must be a map that names the object.", field="metadata")
    return metadata


def _with_owners(document: Document, owners: Owners) -> Document:
    entries = managers.encode(owners)
    metadata = {**_metadata(document), **({"managedFields": entries} if entries else {})}
    return {**document, "metadata": metadata}


def _declared(config: Document, shape: Shape, subresource: str) -> Document:
    """Return the part of *config* that an apply to this (sub)resource obeys."""
    metadata = _metadata(config)
    if metadata.get("managedFields") is not None:
        raise InvalidSpecError("metadata.managedFields must be nil", field="metadata.managedFields")
    if subresource:
        metadata = _only(metadata, "name", "namespace")
        rest = _only(config, "apiVersion", "kind", "status")
    else:
        metadata = {k: v for k, v in metadata.items() if k not in _SERVER_OWNED}
        rest = {name: value for name, value in config.items() if name != "status"}
    declared: Document = without_nulls({**rest, "metadata": metadata}, shape)
    check_keys(declared, shape)
    return declared


def _only(document: Document, *names: str) -> Document:
    return {name: value for name, value in document.items() if name in names}


def _stored_owners(live: Document | None) -> Owners:
    return {} if live is None else _readable(_metadata(live).get("managedFields"))


def _readable(entries: Any) -> Owners:
    """Return the owners; none when they cannot be read, as in Kubernetes."""
    try:
        return managers.decode(entries)
    except ValueError:
        return {}


def _owners_before_apply(live: Document | None, subresource: str, time: str) -> Owners:
    if live is None:
        return {}
    fields = managers.ownable(fields_of(_content(live), shape_of(live)), subresource)
    everything = managers.updater(BEFORE_FIRST_APPLY, _version(live), subresource)
    return managers.held({}, everything, fields, _version(live), time)


def _owners_before_update(live: Document | None, new: Document, subresource: str) -> Owners:
    """Return the owners that the client named, or those that are stored."""
    entries = _metadata(new).get("managedFields")
    if subresource or entries is None:
        return _stored_owners(live)
    if entries in ([], [{}]):
        return {}
    return _readable(entries) or _stored_owners(live)


def _check_conflicts(owners: Owners, myself: Owner, written: FieldSet) -> None:
    causes = [
        Cause(owner.name, owner.operation, holding.api_version, owner.subresource, path)
        for owner, holding in owners.items()
        if owner != myself
        for path in (holding.fields & written).texts()
    ]
    if causes:
        raise FieldConflictError(causes)
