"""`cordon` and `uncordon`: whether anything new is placed on a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import Reference, get_object, reference_text
from sandboxer.cli.printing import note, write
from sandboxer.errors import ConflictError
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import LABEL_SOURCE

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client

# Attempts against a controller that writes the host's status at the same moment.
_ATTEMPTS: Final = 10

Drain = Literal["Keep", "Move", "GiveUp"]


@click.command()
@click.argument("names", metavar="HOST…", nargs=-1, required=True)
def cordon(names: tuple[str, ...]) -> int:
    """Place nothing new on hosts; what runs there stays."""
    return _set_all(names, "cordoned", unschedulable=True, drain=None)


@click.command()
@click.argument("names", metavar="HOST…", nargs=-1, required=True)
def uncordon(names: tuple[str, ...]) -> int:
    """Let hosts take sandboxes again, and end a drain: what has not left yet stays."""
    return _set_all(names, "uncordoned", unschedulable=False, drain="Keep")


def _set_all(names: tuple[str, ...], word: str, *, unschedulable: bool, drain: Drain | None) -> int:
    async def work(access: Access) -> int:
        for name in dict.fromkeys(each.removeprefix("host/") for each in names):
            host = await get_host(access.client, name)
            changed = await set_host(access.client, host, unschedulable=unschedulable, drain=drain)
            write(f"{reference_text(host)} {'' if changed else 'already '}{word}\n")
        return Exit.OK

    return with_api(work, writes=True)


async def get_host(client: Client, name: str) -> Host:
    """
    Return a Host by its name.

    Raises:
        NotFoundError: There is none.
    """
    found = await get_object(client, Reference(Host, name), "")
    assert isinstance(found, Host), "it was asked for by its kind"
    return found


async def set_host(
    client: Client, host: Host, *, unschedulable: bool, drain: Drain | None = None
) -> bool:
    """
    Say whether a host takes anything new, and what becomes of what it has.

    Args:
        client: The API.
        host: As read, some time ago.
        unschedulable: Whether it takes nothing new.
        drain: What becomes of what it has; None leaves that as it is when this is written.

    Returns:
        Whether it said something else before.

    Raises:
        ConflictError: It is being changed all the time.
    """
    # NOTE: only what is meant. What was read may be somebody's drain of before, or none yet.
    change = {"unschedulable": unschedulable, **({"drain": drain} if drain is not None else {})}
    for _ in range(_ATTEMPTS):
        if host.spec.unschedulable == unschedulable and drain in (None, host.spec.drain):
            return False
        try:
            await client.patch(host, {"spec": change})
        except ConflictError:
            # The controller wrote its status since; what counts is read again.
            host = await get_host(client, host.metadata.name)
            continue
        _remark_source(host)
        return True
    raise ConflictError(
        f"The host {host.metadata.name} is being changed all the time.", remedy="Try it again."
    )


def _remark_source(host: Host) -> None:
    if source := host.metadata.labels.get(LABEL_SOURCE):
        note(f"note: {source} keeps this host; if its manifest says otherwise, that wins")
