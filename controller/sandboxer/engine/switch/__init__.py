"""
The dead-man's switch: a host takes an expired sandbox away by itself when no controller comes by.

`guard` says whether a sandbox is to have one, `switches` arms, renews and disarms them on hosts by
running `switch.sh` there; `watch.sh` and `units.sh` stay there and watch. The reasons stand in
docs/design/0006-dead-mans-switch.md.
"""

from sandboxer.engine.switch.guard import (
    DEAD_MANS_SWITCH,
    FIRED,
    Guard,
    Switch,
    fired,
    guarded,
    is_guarded,
    unguarded,
)
from sandboxer.engine.switch.switches import Switches

__all__ = [
    "DEAD_MANS_SWITCH", "FIRED", "Guard", "Switch", "Switches", "fired", "guarded", "is_guarded",
    "unguarded",
]  # fmt: skip
