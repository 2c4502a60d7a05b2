"""
Copies: a look for a sandbox on other hosts, before it is made a second time from nothing.

What was provisioned and is wholly gone from its host may be somewhere else: a store that was
restored from a backup names the host of that day. Asked is only then, as it costs a command for
each host; never for what is made for the first time.
"""

from __future__ import annotations

import asyncio

from sandboxer.engine.observer import Observer
from sandboxer.engine.plan import Situation, Step
from sandboxer.engine.sight import Sight
from sandboxer.extension import LABEL_EXTENSION, Observation
from sandboxer.kinds.host import Host
from sandboxer.store import Store

# Questions at the same time for one sandbox.
ASKED_AT_ONCE = 8


def makes_from_nothing(situation: Situation, step: Step) -> bool:
    """Tell whether a step makes anew what was there once and is wholly gone."""
    seen = situation.observation
    gone = seen is not None and seen.state == "Absent"
    made = situation.sandbox.status.spec_hash != ""
    return gone and made and step.name in ("Provision", "Repair")


async def host_of_copy(sight: Sight, store: Store, observer: Observer) -> str:
    """
    Return the name of another host on which something has a sandbox's uid, empty when none has.

    A host that does not answer, or whose extension cannot say, is not waited for.

    Args:
        sight: The sandbox, which was placed.
        store: Says which hosts there are.
        observer: Asks them.
    """
    home = sight.known_host.metadata.name
    hosts = [host for host in store.list(Host) if host.status.is_true("Reachable")]
    names = {each.name for each in sight.known_wish.candidates} | {sight.known_extension.name}
    ways = [(host, name) for host in hosts if host.metadata.name != home for name in sorted(names)]
    limit, uid = asyncio.Semaphore(ASKED_AT_ONCE), sight.sandbox.metadata.uid

    async def has_it(host: Host, extension: str) -> bool:
        async with limit:
            found = await observer.survey(extension, host, None, uid)
        return any(_is_it(each, uid, extension) for each in found)

    answers = await asyncio.gather(*(has_it(*way) for way in ways), return_exceptions=True)
    # NOTE: `is True`, for an answer may be why there is none.
    there = [way for way, answer in zip(ways, answers, strict=True) if answer is True]
    return there[0][0].metadata.name if there else ""


def _is_it(seen: Observation, uid: str, extension: str) -> bool:
    mine = seen.labels.get(LABEL_EXTENSION) == extension
    return seen.uid == uid and seen.state != "Absent" and mine
