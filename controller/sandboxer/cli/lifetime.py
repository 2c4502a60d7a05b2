"""`extend-ttl` and `expire`: more time for a sandbox, and none for what has had its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit, RefusedError, TimedOutError
from sandboxer.cli.names import get_sandbox, reference_text
from sandboxer.cli.options import DURATION, current_namespace, namespace_option, timeout_option
from sandboxer.cli.printing import columns, note, write
from sandboxer.cli.progress import asked, gone, settle
from sandboxer.errors import ConflictError, InvalidSpecError, NotFoundError
from sandboxer.kinds.meta import LABEL_SOURCE, Key, Resource
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.units import Duration, format_duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client

# Seconds to tell a host of a new end.
_TELLING_S: Final = 60.0

# Attempts against a controller that writes a status at the same moment.
_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Ending:
    """A sandbox and when its lifetime ends."""

    sandbox: Sandbox
    at: datetime

    def is_over(self, now: datetime) -> bool:
        """Tell whether it has ended."""
        return now >= self.at


@click.command("extend-ttl")
@click.argument("name", metavar="ID")
@click.option("--duration", type=DURATION, required=True, help="How much longer, such as 2h.")
@namespace_option
def extend_ttl(name: str, duration: Duration, *, namespace: str | None) -> int:
    """
    Give a sandbox more time than it has: its expiry moves by --duration.

    What has expired already and is still there expires that long after now. The sandbox's own
    `spec.lifetime` is changed; what a spec directory keeps has to be changed there.
    """

    async def work(access: Access) -> int:
        sandbox, old, new = await _extend(access.client, name, namespace, duration)
        now = datetime.now(UTC)
        write(f"{reference_text(sandbox)} expires at {_when(new, now)}; was {_when(old, now)}\n")
        if access.somebody_works():
            return Exit.OK
        if sandbox.status.dead_mans_switch is not None:
            told = asked([sandbox.key], _is_known_there(new))
            try:
                await settle(access, [sandbox.key], told, timeout_s=_TELLING_S)
            except TimedOutError as error:
                raise TimedOutError(
                    f"Host {sandbox.status.host} was not told of the new end; without a controller "
                    f"it takes the sandbox away at {_when(old, now)}.",
                    remedy="Run a controller, or give it more time again when the host answers.",
                ) from error
            note("note: no controller is running; at its end its host takes it away")
            return Exit.OK
        note("note: no controller is running; nothing expires here until one does")
        return Exit.OK

    return with_api(work, writes=True)


def _is_known_there(end: datetime) -> Callable[[Key, Resource | None], bool]:
    """Return whether a sandbox's host, which would take it away by itself, knows its new end."""

    def knows(_: Key, resource: Resource | None) -> bool:
        assert resource is None or isinstance(resource, Sandbox)
        switch = resource.status.dead_mans_switch if resource is not None else None
        return switch is None or switch.expires_at >= end

    return knows


@click.command()
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option(
    "--within",
    type=DURATION,
    default="1h",
    show_default=True,
    help="Also list what expires within this time.",
)
@click.option("--apply", "really", is_flag=True, help="Delete what has expired.")
@timeout_option("5m")
def expire(
    namespace: str | None,
    within: Duration,
    timeout: Duration,
    *,
    all_namespaces: bool,
    really: bool,
) -> int:
    """
    List what has expired or soon will; with --apply delete what has expired, now.

    A running controller does that by itself; this is for where none runs, and for looking. What
    has expired is judged by the clock of this machine, so --apply is refused for another server.
    """
    where = None if all_namespaces else current_namespace(namespace)

    async def work(access: Access) -> int:
        if really and access.is_remote:
            raise RefusedError(
                "What has expired is not deleted by the clock of this machine on another server.",
                remedy="The controller there deletes it by itself; `expire` without --apply looks.",
            )
        now = datetime.now(UTC)
        horizon = now + timedelta(seconds=within.seconds)
        found = [each for each in await _endings(access.client, where) if each.at <= horizon]
        if not really:
            write(endings_text(found, now))
            return Exit.OK
        over = [each for each in found if each.is_over(now)]
        await _delete(access, over, timeout.seconds)
        if not over:
            write("nothing has expired\n")
        return Exit.OK

    return with_api(work, writes=really)


def endings_text(found: Sequence[Ending], now: datetime) -> str:
    """Return what has expired or will, first the one that is over the longest."""
    if not found:
        return "nothing has expired or expires soon\n"
    rows = [["NAMESPACE", "NAME", "PHASE", "EXPIRES", ""]]
    for each in sorted(found, key=lambda ending: ending.at):
        key, phase = each.sandbox.key, each.sandbox.status.phase
        rows.append([key.namespace, key.name, phase, f"{each.at:{_FORM}}", _away(each.at, now)])
    return columns(rows)


def end_of(sandbox: Sandbox, profiles: Mapping[str, Profile]) -> datetime | None:
    """Return when a lifetime ends as its document and its profile say; None is never."""
    own, created = sandbox.spec.lifetime, sandbox.metadata.creation_timestamp
    if created is None:
        return None
    profile = profiles.get(sandbox.spec.profile)
    if own.is_limited or profile is None:
        # Without its profile what was once accepted goes on to count.
        return own.end(created) or sandbox.status.expires_at
    return profile.spec.lifetime.end(created)


def lengthened(
    sandbox: Sandbox, old: datetime, duration: Duration, now: datetime
) -> tuple[datetime, dict[str, Any]]:
    """
    Return the new expiry, and the lifetime that leads to it in the form it has now.

    Raises:
        InvalidSpecError: It would live for longer than a lifetime can be.
    """
    created = sandbox.metadata.creation_timestamp
    assert created is not None, "what was read was created"
    # Whole seconds, which is what documents hold.
    new = max(old, now.replace(microsecond=0)) + timedelta(seconds=math.ceil(duration.seconds))
    if sandbox.spec.lifetime.expires_at is not None:
        return new, {"expiresAt": f"{new:{_FORM}}"}
    try:
        return new, {"ttl": Duration(_duration_text(int((new - created).total_seconds())))}
    except ValueError as error:
        raise InvalidSpecError(f"{sandbox.key} would live too long: {error}.") from error


_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


async def _extend(
    client: Client, name: str, namespace: str | None, duration: Duration
) -> tuple[Sandbox, datetime, datetime]:
    for _ in range(_ATTEMPTS):
        sandbox = await get_sandbox(client, name, current_namespace(namespace))
        _refuse_others(sandbox)
        profile = await client.get(Profile, sandbox.spec.profile)
        old = end_of(sandbox, {profile.metadata.name: profile} if profile else {})
        if old is None:
            raise RefusedError(f"{sandbox.key} has no end; it lives until it is deleted.")
        new, lifetime = lengthened(sandbox, old, duration, datetime.now(UTC))
        try:
            changed = await client.patch(sandbox, {"spec": {"lifetime": lifetime}})
        except ConflictError:
            # The controller wrote its status since; what counts is read again.
            continue
        return changed, old, new
    raise ConflictError(
        f"The sandbox {name} is being changed all the time.", remedy="Try it again."
    )


def _refuse_others(sandbox: Sandbox) -> None:
    """Refuse what is going, and what somebody else keeps as it is."""
    if sandbox.metadata.deletion_timestamp is not None:
        raise RefusedError(f"{sandbox.key} is being deleted already.")
    if source := sandbox.metadata.labels.get(LABEL_SOURCE):
        raise RefusedError(
            f"{sandbox.key} is kept by {source}, which would set its lifetime back.",
            remedy="Change spec.lifetime in its manifest there.",
        )


async def _endings(client: Client, namespace: str | None) -> list[Ending]:
    profiles = {each.metadata.name: each for each in (await client.list(Profile)).items}
    sandboxes = (await client.list(Sandbox, namespace)).items
    living = [each for each in sandboxes if each.metadata.deletion_timestamp is None]
    ends = [(each, end_of(each, profiles)) for each in living]
    return [Ending(sandbox, at) for sandbox, at in ends if at is not None]


async def _delete(access: Access, over: Sequence[Ending], timeout_s: float) -> None:
    """Delete what is over, unless somebody changed it since it was listed."""
    pending = {}
    for each in over:
        key, metadata = each.sandbox.key, each.sandbox.metadata
        try:
            held = await access.client.delete(
                Sandbox,
                key.name,
                key.namespace,
                uid=metadata.uid,
                resource_version=metadata.resource_version,
            )
        except NotFoundError:
            continue
        except ConflictError:
            note(f"note: {reference_text(each.sandbox)} was changed just now and is left alone")
            continue
        if held is not None:
            pending[key] = metadata.uid
        write(f"{reference_text(each.sandbox)} expired at {each.at:{_FORM}}, deletion asked for\n")
    if pending:
        await settle(access, list(pending), gone(pending), timeout_s=timeout_s)


def _when(moment: datetime, now: datetime) -> str:
    return f"{moment:{_FORM}} ({_away(moment, now)})"


def _away(moment: datetime, now: datetime) -> str:
    left_s = (moment - now).total_seconds()
    return f"in {format_duration(left_s)}" if left_s > 0 else f"{format_duration(-left_s)} ago"


def _duration_text(seconds: int) -> str:
    """Return whole seconds exactly, as a person would write them: `26h30m`, `90s`."""
    minutes, rest_s = divmod(seconds, 60)
    hours, rest_m = divmod(minutes, 60)
    parts = ((hours, "h"), (rest_m, "m"), (rest_s, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "1s"
