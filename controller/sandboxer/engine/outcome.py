"""What a pass comes to when nothing went wrong; everything else is raised (`sandboxer.errors`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The pass did what there was to do."""

    after_s: float | None = None
    """Seconds until the key is worth another pass: 0 for at once, None for when something changes."""
