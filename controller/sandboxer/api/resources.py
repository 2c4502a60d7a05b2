"""The one table of all resources the API serves, and how a path finds its row."""

from __future__ import annotations

from typing import Final

from sandboxer.api import pods
from sandboxer.api.events import served_core_events, served_events
from sandboxer.api.namespaces import served_namespaces
from sandboxer.api.served import Served, stored
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.event import Event
from sandboxer.kinds.namespace import Namespace

_SPECIAL: Final = {Event: served_core_events, Namespace: served_namespaces}
"""Kinds of the store that show more than what is stored."""

SERVED: Final[tuple[Served, ...]] = (
    *(_SPECIAL[model]() if model in _SPECIAL else stored(model) for model in KINDS.values()),
    pods.SERVED,
    served_events(),
)
"""Every resource, in the order of discovery."""

_BY_PATH: Final = {(served.group, served.version, served.plural): served for served in SERVED}


def find(group: str, version: str, plural: str) -> Served | None:
    """Return the resource a path names."""
    return _BY_PATH.get((group, version, plural))
