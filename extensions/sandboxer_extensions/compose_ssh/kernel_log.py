"""
Whether the kernel killed a container for its memory, when its engine does not know.

Podman learns of such a kill by `memory.oom_control` or `memory.events`, and says `OOMKilled: false`
where there is neither (cgroup v1 on newer kernels). The kernel's log names the container; who may
not read it learns nothing, and an ending is then told by its signal alone.
"""

from __future__ import annotations

import re
from dataclasses import replace

from sandboxer.extension import LABEL_UID
from sandboxer.session import Session
from sandboxer_extensions.compose_ssh import scripts
from sandboxer_extensions.compose_ssh.inventory import KILLED_STATUS, MAX_INSPECTED, Inventory

# Seconds between a kill in the log and the end of its container as the engine dates it: the log
# counts from boot and drifts a little.
_SAME_MOMENT_S = 10

# What the script prints; whatever else a host says is not ours.
_LINE = re.compile(r"([0-9a-f]{1,64}) (\d{1,12})", re.ASCII)


async def note_memory_kills(session: Session, inventory: Inventory) -> None:
    """Put into *inventory* what the kernel says of containers that were killed."""
    ended = _killed(inventory)
    if not ended:
        return
    done = await session.script(scripts.MEMORY_KILLS, *list(ended)[:MAX_INSPECTED])
    killed = {
        id_
        for id_, at_s in _pairs(done.stdout.decode("ascii", "replace"))
        if id_ in ended and abs(at_s - ended[id_]) <= _SAME_MOMENT_S
    }
    inventory.containers = [
        replace(container, oom_killed=True) if container.id in killed else container
        for container in inventory.containers
    ]


def _killed(inventory: Inventory) -> dict[str, float]:
    """Return when containers ended that were killed for a reason that is not known, by id."""
    # What is suspended was stopped by us, and may have been killed for taking its time.
    asleep = {w.labels[LABEL_UID] for w in inventory.workspaces if w.suspended}
    return {
        c.id: c.ended_at.timestamp()
        for c in inventory.containers
        if c.exit_code == KILLED_STATUS and not c.oom_killed
        if c.ended_at is not None and c.labels[LABEL_UID] not in asleep
    }


def _pairs(text: str) -> list[tuple[str, int]]:
    """Return ids with seconds since 1970, of the lines that hold exactly these."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return [(match[1], int(match[2])) for match in found if match is not None]
