"""The engine: observe, plan, act, record."""

from __future__ import annotations

from sandboxer.engine.engine import Engine
from sandboxer.engine.outcome import Done

__all__ = ["Done", "Engine"]
