"""The object store: durable, versioned objects, the locks of keys, and events."""

from sandboxer.store.deliveries import Deliveries, DueLetter, Registration
from sandboxer.store.entries import Change, Entry
from sandboxer.store.events import EventRecorder
from sandboxer.store.failures import ExpiredError
from sandboxer.store.inventory import InventoryEntry
from sandboxer.store.locks import KeyLocks
from sandboxer.store.operations import (
    Adopt,
    Cause,
    Create,
    Delete,
    News,
    Remains,
    Update,
    UpdateStatus,
)
from sandboxer.store.store import Store

__all__ = [
    "Adopt",
    "Cause",
    "Change",
    "Create",
    "Delete",
    "Deliveries",
    "DueLetter",
    "Entry",
    "EventRecorder",
    "ExpiredError",
    "InventoryEntry",
    "KeyLocks",
    "News",
    "Registration",
    "Remains",
    "Store",
    "Update",
    "UpdateStatus",
]
