"""The writes, as values, so that many can go into one transaction (`Store.write`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sandboxer.kinds.meta import Key, Resource

DEFAULT_NAMESPACE = "default"
"""Where a namespaced object lives when its document names none."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Who makes a write and what made it happen; kept with what the write does to a sandbox."""

    by: str = "controller"
    """As `sandboxer.kinds.story.Transition.by`."""
    trigger: str = ""
    """As `sandboxer.kinds.story.Transition.trigger`."""
    via: str = ""
    """Program a user had it done by."""
    because: str = ""
    """Why, as a sentence; kept in the tombstone of what is deleted."""


CONTROLLER: Final = Cause()
"""Whoever does not say who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """A change of state that is worth telling."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    evidence: Mapping[str, str] = field(default_factory=dict)
    """What the message follows from; names as in `sandboxer.kinds.story.Transition`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is left of a sandbox on a host, where no sandbox of the store is placed."""

    uid: str
    key: Key
    """As its labels say, or of the sandbox that is elsewhere."""
    host: str
    extension: str


@dataclass(frozen=True, slots=True)
class Create:
    """Store a new object; its `status` starts at the kind's default whatever *obj* holds."""

    obj: Resource
    cause: Cause = CONTROLLER


@dataclass(frozen=True, slots=True)
class Adopt:
    """
    Store an object that a store which is lost has made: with its own uid and creationTimestamp.

    Finalizers and status are stored with it, so that nothing of it is missing for an instant.
    """

    obj: Resource
    cause: Cause = CONTROLLER
    news: tuple[News, ...] = ()
    """What it tells."""


@dataclass(frozen=True, slots=True)
class Update:
    """
    Replace everything but `status` and the store's own metadata; compare-and-set.

    Of metadata that is labels, annotations, finalizers, ownerReferences and managedFields.
    """

    obj: Resource
    cause: Cause = CONTROLLER


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """Replace `status` and nothing else; compare-and-set."""

    obj: Resource
    owners: bool = False
    """Replace managedFields too: the API notes who wrote a status, the engine does not."""
    cause: Cause = CONTROLLER
    news: tuple[News, ...] = ()
    """What it tells; kept in the same transaction, and dropped when the write changes nothing."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Ask for deletion; with finalizers left the object stays until they are gone."""

    model: type[Resource]
    name: str
    namespace: str = ""
    uid: str = ""
    """Only this object, not a namesake made since; empty means whichever is there."""
    resource_version: str = ""
    """Only if unchanged since; empty means at any version."""
    finalizers: tuple[str, ...] = ()
    """Added in the same write, for work that the deletion itself asks for (`orphan`)."""
    cause: Cause = CONTROLLER


Operation = Create | Adopt | Update | UpdateStatus | Delete


def key_of(model: type[Resource], name: str, namespace: str = "") -> Key:
    """Return the key of an object; a cluster-scoped kind has no namespace, whatever is given."""
    kind = str(model.model_fields["kind"].default)
    return Key(kind, (namespace or DEFAULT_NAMESPACE) if model.namespaced else "", name)
