"""Fixtures several files share; everything else is imported from the labs."""

from __future__ import annotations

from tests.integration.compose_lab import h1, place

__all__ = ["h1", "place"]
