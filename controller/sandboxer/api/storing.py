"""
What every write has in common: the way from a new document to the store.

    document → in its place → validated as its kind → owners noted → one compare-and-set

A write reads the stored entry from memory, computes the whole new document and lets the store judge
it against the database. When somebody else was quicker it starts over from what is stored then;
if the document names a version or a uid that is no longer there, the client must look again.

Source:
    apiserver `pkg/endpoints/handlers/{create,update,rest}.go` and `pkg/registry/rest/{create,
    update,meta}.go` for checks, their order and their words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from sandboxer import fields
from sandboxer.api.answers import StatusError
from sandboxer.api.refusals import cause, conflict, invalid, not_found, refused
from sandboxer.api.served import Served
from sandboxer.api.validation import Document, parse
from sandboxer.api.writeoptions import WriteOptions
from sandboxer.engine.desired import resolve
from sandboxer.errors import ConflictError, InvalidSpecError, SandboxerError
from sandboxer.kinds.meta import Key, ManagedFieldsEntry, Resource
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.registry import Registry
from sandboxer.store import Cause, Create, Store, Update, UpdateStatus

# Times a write starts over because somebody else was quicker. Each time somebody got through, so
# this is how many may write one object at once before the last of them is told to come again;
# etcd's `GuaranteedUpdate` tries for as long as the request lasts.
_MAX_TRIES: Final = 100

_OWNERS: Final[TypeAdapter[tuple[ManagedFieldsEntry, ...]]] = TypeAdapter(
    tuple[ManagedFieldsEntry, ...]
)


@dataclass(frozen=True, slots=True)
class Write:
    """One write to one object: where, with which options, and what the client is told besides."""

    store: Store
    served: Served
    model: type[Resource]
    namespace: str
    """Empty for cluster-scoped kinds."""
    name: str
    """Empty for a create."""
    options: WriteOptions
    cause: Cause
    """Who writes."""
    registry: Registry | None = None
    """Loaded extensions, which know whether a sandbox's inputs are right."""
    subresource: str = ""
    """`status` writes nothing else; every other write leaves `status` alone."""
    warnings: list[str] = field(default_factory=list)

    def live(self) -> Document | None:
        """Return the stored document, None when there is none."""
        entry = self.store.entry(Key(self.served.kind, self.namespace, self.name))
        document: Document | None = None if entry is None else json.loads(entry.body)
        return document

    def warn(self, warnings: Iterable[str]) -> None:
        """Tell the client something besides the answer; the same only once."""
        self.warnings.extend(warnings)


class Revision(NamedTuple):
    """What an object is to become."""

    document: Document
    """The whole document, pruned; an absent uid or resourceVersion means whichever is stored."""
    owners: list[Document] | None = None
    """Its managedFields when they are decided already (an apply); None notes what differs."""


async def store_new(write: Write, revision: Revision) -> Resource:
    """
    Create an object and return it as stored.

    Raises:
        StatusError: 409, 422…; nothing was written.
        ConflictError: There is one of that name.
    """
    document = placed(write, {k: v for k, v in revision.document.items() if k != "status"})
    metadata = document["metadata"]
    if metadata.get("resourceVersion"):
        raise StatusError(400, "resourceVersion should not be set on objects to be created")
    if not metadata.get("name"):
        words = "Required value: name or generateName is required"
        raise invalid(write.served, "", [cause("Required", "metadata.name", words)])
    obj = parse(_with_metadata(document, managedFields=None), write.model, write.served)
    owners = revision.owners
    if owners is None:
        written = {**document, "metadata": {"managedFields": [], **metadata}}
        owners = fields.update(None, written, manager=write.options.manager, now=_now())
    _warn_about(write, obj)
    return await _store(write, Create(_owned(obj, owners)), obj)


async def change(write: Write, revise: Callable[[Document], Revision]) -> Resource:
    """
    Change an object and return it as stored.

    Args:
        write: Which one.
        revise: Called with the stored document, which it leaves as it is; again after a conflict.

    Raises:
        StatusError: 404, 409, 422…; nothing was written.
    """
    for _ in range(_MAX_TRIES):
        live = write.live()
        try:
            if live is None:
                return await _make_shown(write, revise)
            return await _change_once(write, live, revise(live))
        except ConflictError:
            continue
    raise conflict(write.served, write.name)


async def _make_shown(write: Write, revise: Callable[[Document], Revision]) -> Resource:
    """Store what was only shown so far, as a namespace that is in use and nobody has made."""
    shown = write.served.collection(write.store).get(write.namespace, write.name)
    if shown is None:
        raise not_found(write.served, write.name)
    revision = revise(json.loads(shown.body))
    bare = _with_metadata(revision.document, uid=None, resourceVersion=None)
    return await store_new(write, Revision(bare, revision.owners))


async def _change_once(write: Write, live: Document, revision: Revision) -> Resource:
    """Write what was made from *live*; `ConflictError` when that is no longer stored."""
    document = placed(write, revision.document)
    _check_preconditions(write, live["metadata"], document["metadata"])
    obj = parse(_whole(write, live, document), write.model, write.served)
    after = obj.to_document()
    owners = revision.owners
    if owners is None:
        owners = fields.update(
            live,
            _with_metadata(after, managedFields=document["metadata"].get("managedFields")),
            manager=write.options.manager,
            now=_now(),
            subresource=write.subresource,
        )
    owned = _owned(obj, owners)
    if write.subresource == "status":
        return await _store(write, UpdateStatus(owned, owners=True), owned)
    if after.get("spec") != live.get("spec"):
        _warn_about(write, obj)
    return await _store(write, Update(owned), owned)


def placed(write: Write, document: Document) -> Document:
    """
    Return a document with the name and namespace of the URL, which it may leave out.

    Raises:
        StatusError: 400, it names others.
    """
    metadata = document.get("metadata", {})
    if not isinstance(metadata, dict):
        raise StatusError(400, "metadata must be a mapping")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if write.name and name and name != write.name:
        raise StatusError(
            400, f"the name of the object ({name!s:.64}) does not match the name on the URL"
            f" ({write.name})"
        )  # fmt: skip
    if write.namespace and namespace and namespace != write.namespace:
        raise StatusError(
            400, "the namespace of the provided object does not match the namespace sent on the"
            " request"
        )  # fmt: skip
    place = {"name": write.name or name, "namespace": write.namespace or None}
    return _with_metadata(document, **place)


def _with_metadata(document: Document, **changes: Any) -> Document:
    """Return a document with these fields of metadata; None leaves one out."""
    metadata = {**document.get("metadata", {}), **changes}
    kept = {name: value for name, value in metadata.items() if value is not None}
    return {**document, "metadata": kept}


def _check_preconditions(write: Write, live: Document, wanted: Document) -> None:
    """Refuse what was meant for another object or another version of it."""
    if wanted.get("uid") and wanted["uid"] != live["uid"]:
        why = (
            f"Precondition failed: UID in precondition: {wanted['uid']!s:.64}, "
            f"UID in object meta: {live['uid']}"
        )
        raise conflict(write.served, write.name, why)
    if wanted.get("resourceVersion") and wanted["resourceVersion"] != live["resourceVersion"]:
        raise conflict(write.served, write.name)


def _whole(write: Write, live: Document, document: Document) -> Document:
    """Return the document that is validated: what this write may not change is the stored one's."""
    kept = {"uid": live["metadata"]["uid"], "resourceVersion": live["metadata"]["resourceVersion"]}
    if write.subresource == "status":
        status = {"status": document["status"]} if "status" in document else {}
        rest = {name: value for name, value in live.items() if name != "status"}
        return _with_metadata({**rest, **status}, **kept, managedFields=None)
    status = {"status": live["status"]} if "status" in live else {}
    rest = {name: value for name, value in document.items() if name != "status"}
    return _with_metadata({**rest, **status}, **kept, managedFields=None)


def _owned(obj: Resource, owners: list[Document]) -> Resource:
    """Return *obj* with its managedFields."""
    try:
        entries = _OWNERS.validate_json(json.dumps(owners), by_alias=True, by_name=False)
    except ValidationError as error:
        raise StatusError(400, "metadata.managedFields cannot be read") from error
    metadata = obj.metadata.model_copy(update={"managed_fields": entries})
    return obj.model_copy(update={"metadata": metadata})


async def _store(
    write: Write, operation: Create | Update | UpdateStatus, obj: Resource
) -> Resource:
    """Let the store judge; `ConflictError` passes, because its meaning is the caller's."""
    name = obj.metadata.name
    try:
        told = replace(operation, cause=write.cause)
        (result,) = await write.store.write([told], dry_run=write.options.dry_run)
    except SandboxerError as error:
        raise refused(error, write.served, name) from error
    if isinstance(result, ConflictError):
        raise result
    if isinstance(result, SandboxerError):
        raise refused(result, write.served, name) from result
    # Without one, this write was the last of an object that only waited for its finalizers.
    return result or obj


def _warn_about(write: Write, obj: Resource) -> None:
    """Warn of a sandbox that could not run as it is; its profile may come later."""
    if not isinstance(obj, Sandbox) or write.registry is None:
        return
    profile = write.store.get(Profile, obj.spec.profile)
    try:
        resolve(obj, profile, write.registry.extensions)
    except InvalidSpecError as error:
        write.warn([str(error)])


def _now() -> datetime:
    return datetime.now(UTC)
