"""
`drain`: have every sandbox leave a host, or do without a host that is gone for good.

The command writes the wish into the Host's spec and then watches; the controller does the work,
also when nobody watches any more. What the command asks for is judged twice: before anything is
written, and by the controller at each step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.cordon import get_host, set_host
from sandboxer.cli.exits import Exit, RefusedError
from sandboxer.cli.inspect import look_at
from sandboxer.cli.options import timeout_option
from sandboxer.cli.printing import columns, note, safe_text, write
from sandboxer.cli.progress import asked, settle
from sandboxer.client.refusals import HostSilentError
from sandboxer.errors import TerminalError, UnreachableError
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Key, Resource
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client

# Reasons of condition Leaving with which a sandbox stays until somebody does something about it.
_STAYS = frozenset({"NoOtherPlace", "BuildUnderWay", "BuildEnded"})

# Reason of a host that shows another key: whoever answers there, the machine of before does not.
_ANOTHER_MACHINE = "HostKeyMismatch"


@click.command()
@click.argument("name", metavar="HOST")
@click.option("--discard-workspaces", "discards", is_flag=True, help="Move sandboxes although what their workspaces hold is lost.")  # fmt: skip
@click.option("--give-up", "gives_up", is_flag=True, help="The host is gone for good: forget what is on it, unseen.")  # fmt: skip
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask before a host is given up.")
@click.option("--dry-run", "rehearses", is_flag=True, help="Say what would become of each sandbox.")
@click.option("--wait/--no-wait", "waits", default=True, help="Wait until nothing more can leave.")
@timeout_option("5m")
def drain(
    name: str,
    timeout: Duration,
    *,
    discards: bool,
    gives_up: bool,
    is_sure: bool,
    rehearses: bool,
    waits: bool,
) -> int:
    """
    Cordon a host and have every sandbox leave it for another host that fits.

    A sandbox is torn down there and made anew elsewhere, once another place is set aside for it.
    What fits nowhere else stays as it is, and is listed. `uncordon` takes it all back.

    Exit code 0 when nothing is left there, 1 when something stays, 6 when the time is over, 7 when
    the host does not answer.
    """

    async def work(access: Access) -> int:
        host = await get_host(access.client, name.removeprefix("host/"))
        if gives_up:
            await refuse_answer(access.client, host)
        found = await _on(access.client, host)
        if rehearses:
            word = "given up" if gives_up else "cordoned"
            write(f"host/{host.metadata.name} {word} (dry run)\n")
            write(rehearsal(found, unseen=gives_up))
            return Exit.OK
        if gives_up:
            await _give_up(access.client, host, found, is_sure=is_sure)
        elif not await _begin(access.client, host, discards=discards):
            return Exit.OK
        found = await _on(access.client, host)
        if waits and found:
            return await _watch(access, host, found, timeout.seconds, unseen=gives_up)
        write(f"host/{host.metadata.name} {'drain asked for' if found else 'drained'}\n")
        if found and not access.somebody_works():
            note("note: no controller is running; nothing leaves until one does")
        return Exit.OK

    return with_api(work, writes=True)


async def _on(client: Client, host: Host) -> list[Sandbox]:
    """Return the sandboxes that are placed on a host."""
    everywhere = (await client.list(Sandbox)).items
    return [each for each in everywhere if each.status.host == host.metadata.name]


async def _begin(client: Client, host: Host, *, discards: bool) -> bool:
    """
    Ask for the drain; False when nothing is there, so that to cordon it is enough.

    Raises:
        RefusedError: Workspaces would be lost, or the host does not answer.
    """
    name = host.metadata.name
    if await _on(client, host):
        await _refuse_silence(client, host)
    if discards:
        await set_host(client, host, unschedulable=True, drain="Move")
        write(f"host/{name} cordoned\n")
        return True
    _refuse_losses(host, await _on(client, host))
    await set_host(client, host, unschedulable=True)
    write(f"host/{name} cordoned\n")
    # NOTE: asked again, for something may have come before it was cordoned.
    _refuse_losses(host, await _on(client, host))
    write(f"host/{name} drained\n")
    return False


async def _refuse_silence(client: Client, host: Host) -> None:
    reachable = host.status.condition("Reachable")
    if reachable is None or reachable.status != "False":
        return
    try:
        await look_at(client, host)
    except HostSilentError as silence:
        raise UnreachableError(
            f"{silence.message} So nothing can leave it. {reachable.message}",
            remedy="Wait until it answers; --give-up forgets what is on a host that is gone for good.",
        ) from silence


def _refuse_losses(host: Host, found: Sequence[Sandbox]) -> None:
    if not found:
        return
    write(rehearsal(found))
    raise RefusedError(
        f"What the workspaces of these {len(found)} hold is lost when they leave host "
        f"{host.metadata.name}.",
        remedy="--discard-workspaces lets them leave.",
    )


def rehearsal(found: Sequence[Sandbox], *, unseen: bool = False) -> str:
    """Return what would become of sandboxes, as a table; *unseen* when their host is given up."""
    if not found:
        return "Nothing is on it.\n"
    rows = [["NAMESPACE", "NAME", "PHASE", "WOULD"]]
    for each in found:
        key, prospect = each.key, _prospect_unseen(each) if unseen else _prospect(each)
        rows.append([key.namespace, key.name, each.status.phase, safe_text(prospect)])
    return columns(rows)


def _prospect_unseen(sandbox: Sandbox) -> str:
    """Return what becomes of a sandbox whose host is given up, as far as that is known before."""
    if sandbox.metadata.deletion_timestamp is not None:
        return "be gone: its deletion was asked for"
    if sandbox.spec.placement.host == sandbox.status.host:
        return "wait without its workspace: it asks for this host"
    return "be made anew on a host that fits, without its workspace; wait if none does"


def _prospect(sandbox: Sandbox) -> str:
    """Return what a drain would do to a sandbox, as far as that is known before."""
    if sandbox.metadata.deletion_timestamp is not None:
        return "go: its deletion was asked for"
    if sandbox.spec.placement.host == sandbox.status.host:
        return "stay: it asks for this host"
    if any(resource.kind == "build" for resource in sandbox.status.resources):
        return "stay: a build is not interrupted, and not made again elsewhere"
    return "be made anew on a host that fits, without its workspace; stay if none does"


async def refuse_answer(client: Client, host: Host) -> None:
    """
    Look at a host once more before it is given up, and say how it is silent.

    Raises:
        RefusedError: It answers.
        SandboxerError: Whether it does is not known: the API has trouble of its own, or the host
            refuses us.
    """
    name = host.metadata.name
    try:
        await look_at(client, host)
    except HostSilentError as silence:
        note(f"note: {safe_text(silence.message)}")
    except TerminalError as refused:
        if refused.reason != _ANOTHER_MACHINE:
            raise
        note(f"note: {safe_text(refused.message)}")
    else:
        raise RefusedError(
            f"Host {name} answers, so it is not given up.",
            remedy=f"Drain it: sandboxer drain {name}",
        )


async def _give_up(client: Client, host: Host, found: Sequence[Sandbox], *, is_sure: bool) -> None:
    """
    Give a host up that was found silent.

    Raises:
        RefusedError: Nobody is sure.
    """
    name = host.metadata.name
    if found:
        write(rehearsal(found, unseen=True))
    make_sure(name, is_sure=is_sure)
    await set_host(client, host, unschedulable=True, drain="GiveUp")
    write(f"host/{name} given up\n")


def make_sure(name: str, *, is_sure: bool) -> None:
    """
    Ask for the name of a host before it is given up.

    Raises:
        RefusedError: Another name was typed, or nobody can be asked.
    """
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise RefusedError(
            f"Host {name} is not given up without being sure.", remedy="Say --yes if you are."
        )
    if click.prompt("What is on it is forgotten. Type its name to go on", err=True) != name:
        raise RefusedError("That is not its name; nothing was changed.")


async def _watch(
    access: Access, host: Host, found: Sequence[Sandbox], timeout_s: float, *, unseen: bool
) -> int:
    """Wait until nothing more can leave, and say what became of each."""
    name, keys = host.metadata.name, [each.key for each in found]

    def has_ended(_: Key, resource: Resource | None) -> bool:
        if not isinstance(resource, Sandbox) or resource.status.host != name:
            return True
        # What was said before the host was given up counts no more.
        return not unseen and bool(why_stay(resource))

    hosts = [each.key for each in (await access.client.list(Host)).items]
    await settle(access, keys, asked(keys, has_ended), timeout_s=timeout_s, besides=hosts)
    left = await _report(access.client, name, keys)
    if left:
        note(f"error: {left} of {len(keys)} stay on host {name}")
        return Exit.NO
    write(f"host/{name} drained\n")
    return Exit.OK


async def _report(client: Client, name: str, keys: Sequence[Key]) -> int:
    """Print what became of each; return how many stay."""
    now = {each.key: each for each in (await client.list(Sandbox)).items}
    stay = 0
    for key in keys:
        sandbox = now.get(key)
        stays = sandbox is not None and sandbox.status.host == name
        stay += stays
        write(f"{key.namespace}/{key.name} {fate(sandbox, name)}\n")
    return stay


def fate(sandbox: Sandbox | None, left: str) -> str:
    """Return what became of a sandbox that was on host *left*; None is one that is gone."""
    if sandbox is None:
        return "is gone"
    if sandbox.status.host == left:
        return safe_text(f"stays: {why_stay(sandbox)}")
    if sandbox.status.host:
        return f"moved to {sandbox.status.host}"
    routed = sandbox.status.condition("Routed")
    return safe_text(f"waits for a place: {routed.message if routed is not None else ''}")


def why_stay(sandbox: Sandbox) -> str:
    """Return why a sandbox stays until somebody does something, empty when it does not."""
    accepted, leaving = (sandbox.status.condition(each) for each in ("Accepted", "Leaving"))
    if sandbox.metadata.deletion_timestamp is not None:
        return ""
    if accepted is not None and accepted.status == "False":
        return accepted.message
    if leaving is not None and leaving.status == "True" and leaving.reason in _STAYS:
        return leaving.message
    return ""
