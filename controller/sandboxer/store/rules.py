"""
The rules of writing, pure: what one write makes of what is stored.

They are those of the Kubernetes API: the server owns uid, resourceVersion, generation and
timestamps; `status` and the rest are written apart; a write that changes nothing is none.

    prepare   on the caller's side: operation → wish, everything that needs no stored object
    judge     inside the transaction: wish and stored document → verdict
    encode    document → bytes
    read_back bytes → object, refused now rather than at the next reading
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from sandboxer.errors import ConflictError, InvalidSpecError, NotFoundError
from sandboxer.kinds.meta import ANNOTATION_SIGNED, Key, Resource
from sandboxer.store.entries import ChangeType, Document, first_problem
from sandboxer.store.operations import (
    CONTROLLER,
    Adopt,
    Cause,
    Create,
    Delete,
    News,
    Operation,
    Update,
    UpdateStatus,
    key_of,
)

# Bytes of all annotations of one object, keys included.
# Source: Kubernetes `TotalAnnotationSizeLimitB`, apimachinery/pkg/api/validation/objectmeta.go.
MAX_ANNOTATION_BYTES: Final = 256 * 1024

# Bytes of one document. Bounds what a hostile status (host output) or spec costs in memory and in
# every watch. Source: etcd's `--max-request-bytes`, 1.5 MiB, which bounds Kubernetes' objects.
MAX_DOCUMENT_BYTES: Final = 3 * 2**19

# What an update may change of metadata; everything else there is the store's.
_WRITABLE_METADATA: Final = (
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
)


@dataclass(frozen=True, slots=True)
class Wish:
    """A write whose form is right, ready to be judged against what is stored."""

    action: Literal["create", "adopt", "update", "status", "delete"]
    model: type[Resource]
    key: Key
    document: Document
    """Whole document; for `status` only that section, for `delete` nothing."""
    uid: str
    resource_version: str
    owners: Sequence[Any] | None = None
    """New managedFields of a status write; None leaves them."""
    finalizers: tuple[str, ...] = ()
    """What a delete adds to those of the object."""
    cause: Cause = CONTROLLER
    news: tuple[News, ...] = ()
    """What a status write or an adoption tells."""


class Verdict(NamedTuple):
    """What becomes of the object."""

    change: ChangeType | None
    """None when nothing changes."""
    document: Document
    """New document, its resourceVersion still the old one; for `DELETED` the last one."""


def prepare(operation: Operation) -> Wish:
    """
    Check the form of a write.

    Raises:
        InvalidSpecError: Server-owned fields are set, required ones missing, or it is too big.
    """
    if isinstance(operation, Delete):
        return Wish(
            "delete",
            operation.model,
            key_of(operation.model, operation.name, operation.namespace),
            {},
            operation.uid,
            operation.resource_version,
            finalizers=operation.finalizers,
            cause=operation.cause,
        )
    obj = operation.obj
    key = _checked_key(obj)
    version = obj.metadata.resource_version
    if isinstance(operation, Create | Adopt) and version:
        raise InvalidSpecError(
            f"{key} is to be created and must not carry a resourceVersion.",
            field="metadata.resourceVersion",
            remedy="Remove it.",
        )
    if not isinstance(operation, Create | Adopt) and not version:
        raise InvalidSpecError(
            f"{key} must carry the resourceVersion it was read with.",
            field="metadata.resourceVersion",
            remedy="Read the object, change it and write it back.",
        )
    if isinstance(operation, UpdateStatus):
        owners = obj.metadata.to_document().get("managedFields", []) if operation.owners else None
        status = _status_of(obj, key)
        return Wish(
            "status", type(obj), key, status, obj.metadata.uid, version, owners,
            cause=operation.cause, news=operation.news,
        )  # fmt: skip
    _check_annotations(obj, key)
    document = obj.to_document()
    if key.namespace:
        document["metadata"]["namespace"] = key.namespace
    cause = operation.cause
    if isinstance(operation, Adopt):
        return _adoption(operation, key, document)
    action: Literal["create", "update"] = "update" if isinstance(operation, Update) else "create"
    return Wish(action, type(obj), key, document, obj.metadata.uid, version, cause=cause)


def judge(wish: Wish, stored: Document | None, now: str) -> Verdict:
    """
    Decide what one write makes of the stored document, which is never altered.

    Args:
        wish: What is wanted.
        stored: Document as stored, None when there is none.
        now: Time of the write, RFC 3339 in UTC with whole seconds.

    Raises:
        ConflictError: It exists already, or was changed or replaced since it was read.
        NotFoundError: There is nothing to change.
        InvalidSpecError: A finalizer is added to an object that is being deleted.
    """
    if wish.action in ("create", "adopt"):
        if stored is not None:
            raise ConflictError(f"{wish.key} already exists.", reason="AlreadyExists")
        return Verdict("ADDED", wish.document if wish.action == "adopt" else _created(wish, now))
    if stored is None:
        raise NotFoundError(f"{wish.key} does not exist.")
    _check_preconditions(wish, stored["metadata"])
    if wish.action == "delete":
        return _deleted(wish, stored, now)
    if wish.action == "status":
        return _with_status(wish, stored)
    return _updated(wish, stored, now)


def encode(key: Key, document: Document) -> bytes:
    """
    Return the document as it is stored.

    Raises:
        InvalidSpecError: It is too big, or holds what JSON cannot.
    """
    try:
        body = to_json(document)
    except (PydanticSerializationError, UnicodeError) as error:
        raise InvalidSpecError(f"{key} cannot be written as JSON: {error}") from error
    if len(body) > MAX_DOCUMENT_BYTES:
        raise InvalidSpecError(
            f"{key} has {len(body)} bytes; at most {MAX_DOCUMENT_BYTES} are stored.",
            remedy="Keep large data elsewhere and store a reference.",
        )
    return body


def read_back(model: type[Resource], key: Key, body: bytes) -> Resource:
    """
    Return the object that *body* will be read as.

    A model can hold what its kind forbids (`model_copy` does not validate). Reading back before
    the commit keeps such a document out, instead of finding it unreadable for ever after.

    Raises:
        InvalidSpecError: It could not be read.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        field, message = first_problem(error)
        raise InvalidSpecError(f"{key} is not valid: {field}: {message}.", field=field) from error


def _checked_key(obj: Resource) -> Key:
    if not obj.namespaced and obj.metadata.namespace:
        raise InvalidSpecError(
            f"{obj.kind} {obj.metadata.name} is cluster-scoped and must not name a namespace.",
            field="metadata.namespace",
            remedy="Remove metadata.namespace.",
        )
    return key_of(type(obj), obj.metadata.name, obj.metadata.namespace or "")


def _status_of(obj: Resource, key: Key) -> Document:
    status: Any = getattr(obj, "status", None)
    if status is None:
        raise InvalidSpecError(f"{key} has no status.", field="status")
    document: Document = status.to_document()
    return document


def _check_annotations(obj: Resource, key: Key) -> None:
    size_bytes = sum(
        len(name) + len(text.encode("utf-8", "replace"))
        for name, text in obj.metadata.annotations.items()
    )
    if size_bytes > MAX_ANNOTATION_BYTES:
        raise InvalidSpecError(
            f"{key} has {size_bytes} bytes of annotations; at most {MAX_ANNOTATION_BYTES} are kept.",
            field="metadata.annotations",
            remedy="Keep large notes elsewhere and store a reference.",
        )


def _check_preconditions(wish: Wish, metadata: Document) -> None:
    if wish.uid and wish.uid != metadata["uid"]:
        raise ConflictError(f"{wish.key} was deleted and made anew since it was read.")
    if wish.resource_version and wish.resource_version != metadata["resourceVersion"]:
        raise ConflictError(
            f"{wish.key} was changed since it was read (version {wish.resource_version}, "
            f"now {metadata['resourceVersion']})."
        )


def _adoption(operation: Adopt, key: Key, document: Document) -> Wish:
    metadata = operation.obj.metadata
    if not metadata.uid or metadata.creation_timestamp is None:
        raise InvalidSpecError(
            f"{key} is to be adopted and must carry its uid and creationTimestamp.",
            field="metadata.uid",
        )
    document["metadata"]["generation"] = 1
    document["metadata"].pop("deletionTimestamp", None)
    return Wish(
        "adopt", type(operation.obj), key, document, metadata.uid, "",
        cause=operation.cause, news=operation.news,
    )  # fmt: skip


def _created(wish: Wish, now: str) -> Document:
    wanted = wish.document["metadata"]
    metadata = {
        **wanted,
        "uid": str(uuid.uuid4()),
        "generation": 1,
        "creationTimestamp": now,
    }
    metadata.pop("deletionTimestamp", None)
    metadata["annotations"] = {**wanted["annotations"]}
    metadata["annotations"].pop(ANNOTATION_SIGNED, None)
    document = {**wish.document, "metadata": metadata}
    if "status" in document:
        document["status"] = _default_status(wish.model)
    return document


@cache
def _default_status(model: type[Resource]) -> Document:
    status: Any = model.model_fields["status"].get_default(call_default_factory=True)
    document: Document = status.to_document()
    return document


def _updated(wish: Wish, stored: Document, now: str) -> Verdict:
    old = stored["metadata"]
    wanted = wish.document["metadata"]
    kept = {name: value for name, value in old.items() if name not in _WRITABLE_METADATA}
    metadata = {name: wanted[name] for name in _WRITABLE_METADATA if name in wanted}
    deleting = "deletionTimestamp" in old
    if deleting and (added := set(metadata["finalizers"]) - set(old["finalizers"])):
        raise InvalidSpecError(
            f"{wish.key} is being deleted; no finalizer can be added ({', '.join(sorted(added))}).",
            field="metadata.finalizers",
            reason="Forbidden",
        )
    if wish.model.signed_field:
        metadata["annotations"] = _signed(wish, stored, now)
    document = {**wish.document, "metadata": {**kept, **metadata}}
    if "status" in stored:
        document["status"] = stored["status"]
    if _differs(document.get("spec"), stored.get("spec")):
        document["metadata"]["generation"] += 1
    if deleting and not metadata["finalizers"]:
        return Verdict("DELETED", document)
    return Verdict("MODIFIED" if _differs(document, stored) else None, document)


def _signed(wish: Wish, stored: Document, now: str) -> Document:
    """Return the annotations with who gave a kind's signed field its value; nobody else writes it."""
    name, annotations = wish.model.signed_field, dict(wish.document["metadata"]["annotations"])
    signature = stored["metadata"].get("annotations", {}).get(ANNOTATION_SIGNED, "")
    if wish.document["spec"].get(name) != stored.get("spec", {}).get(name):
        via = f" with {wish.cause.via}" if wish.cause.via else ""
        signature = f"{wish.cause.by.replace('/', ' ', 1)}{via} at {now}"
    annotations.pop(ANNOTATION_SIGNED, None)
    return {**annotations, ANNOTATION_SIGNED: signature} if signature else annotations


def _with_status(wish: Wish, stored: Document) -> Verdict:
    document = {**stored, "status": wish.document}
    if wish.owners is not None:
        metadata = {k: v for k, v in stored["metadata"].items() if k != "managedFields"}
        if wish.owners:
            metadata["managedFields"] = wish.owners
        document["metadata"] = metadata
    return Verdict(None if document == stored else "MODIFIED", document)


def _differs(one: Document | None, other: Document | None) -> bool:
    # Python takes 1, 1.0 and True for equal, a document does not; its text tells them apart.
    return one != other or json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def _deleted(wish: Wish, stored: Document, now: str) -> Verdict:
    old = stored["metadata"]
    added = [name for name in wish.finalizers if name not in old["finalizers"]]
    finalizers = [*old["finalizers"], *added]
    if not finalizers:
        return Verdict("DELETED", stored)
    metadata = {**old, "finalizers": finalizers}
    if "deletionTimestamp" not in old:
        metadata |= {"deletionTimestamp": now, "generation": old["generation"] + 1}
    elif not added:
        return Verdict(None, stored)
    return Verdict("MODIFIED", {**stored, "metadata": metadata})
