"""Routing: which extension on which host, and why not the others."""

from __future__ import annotations

from sandboxer.routing.choose import (
    Choice,
    NoFit,
    Place,
    choose,
    isolation_objection,
    lease_ports,
    placement_objection,
    still_fits,
)
from sandboxer.routing.wish import Candidate, Wish

__all__ = [
    "Candidate",
    "Choice",
    "NoFit",
    "Place",
    "Wish",
    "choose",
    "isolation_objection",
    "lease_ports",
    "placement_objection",
    "still_fits",
]
