"""Recording what happened to an object as Kubernetes events, repeats counted instead of listed."""

from __future__ import annotations

import hashlib
import logging
from typing import Final, Literal

from sandboxer.clock import Clock
from sandboxer.errors import SandboxerError
from sandboxer.kinds.event import Event, ObjectReference
from sandboxer.kinds.meta import ObjectMeta, Resource
from sandboxer.store.operations import DEFAULT_NAMESPACE
from sandboxer.store.store import Store

# Characters of a message. Source: Kubernetes limits `note` to 1 kB, pkg/apis/core/validation/events.go.
MAX_MESSAGE_LENGTH: Final = 1024

# Hexadecimal digits of the hash in an event's name, and characters of the object's name before
# it: together 63, the longest name there can be.
_HASH_DIGITS: Final = 16
_NAME_LENGTH: Final = 63 - 1 - _HASH_DIGITS

_log = logging.getLogger(__name__)


class EventRecorder:
    """
    Writes events.

    Args:
        store: Where they go; `Store.compact` removes old ones.
        clock: Tells when something happened.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def record(
        self,
        obj: Resource,
        reason: str,
        message: str,
        type: Literal["Normal", "Warning"] = "Normal",  # noqa: A002 - the field's own name
    ) -> None:
        """
        Record that something happened to *obj*, once more if it happened before.

        A failure to record is logged and never raised: what is reported matters more than the
        report. Two processes that record the same event at the same moment count it once.

        Args:
            obj: What it is about, as stored.
            reason: Stable CamelCase word.
            message: A sentence; cut after 1024 characters.
            type: `Warning` when a person may have to act.
        """
        message = message[:MAX_MESSAGE_LENGTH]
        name = _event_name(obj, reason, message)
        namespace = obj.metadata.namespace or DEFAULT_NAMESPACE
        now = self._clock.now()
        try:
            known = self._store.get(Event, name, namespace)
            if known is None:
                metadata = ObjectMeta(name=name, namespace=namespace)
                event = Event(
                    metadata=metadata, involved_object=_reference(obj), type=type, reason=reason,
                    message=message, first_timestamp=now, last_timestamp=now,
                )  # fmt: skip
                await self._store.create(event)
            else:
                repeat = {"count": known.count + 1, "last_timestamp": now}
                await self._store.update(known.model_copy(update=repeat))
        except SandboxerError as error:
            _log.warning(
                "event not recorded",
                extra={"object": str(obj.key), "reason": reason, "error": str(error)},
            )


def _event_name(obj: Resource, reason: str, message: str) -> str:
    """Return `<object>.<hash>`, the same for the same object, reason and message."""
    identity = f"{obj.kind}\0{obj.metadata.uid}\0{reason}\0{message}"
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:_HASH_DIGITS]
    return f"{obj.metadata.name[:_NAME_LENGTH].rstrip('-.')}.{digest}"


def _reference(obj: Resource) -> ObjectReference:
    return ObjectReference(
        api_version=obj.api_version,
        kind=obj.kind,
        namespace=obj.metadata.namespace or "",
        name=obj.metadata.name,
        uid=obj.metadata.uid,
    )
