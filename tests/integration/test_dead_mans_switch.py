"""Hosts that take away by themselves what has expired, with the scripts that run there."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from sandboxer.clock import SystemClock
from sandboxer.engine.placements import Placements
from sandboxer.engine.switch import Guard, Switch, Switches
from sandboxer.errors import TransientError
from sandboxer.extension import Inputs, Instance
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import SwitchSeen
from sandboxer.session import Session
from sandboxer.store import Store
from sandboxer.testing.builders import sandbox
from sandboxer.testing.this_machine import local_host, open_local_session

UID = "0a0b0c0d-0000-4000-8000-000000000001"
SHORT = "sbx-0a0b0c0d0000"
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FAR = datetime(2090, 1, 1, tzinfo=UTC)
# Seconds since boot are whole, and a busy machine lets a look wait.
LEASE_S = 6

# Far above what anything takes on a busy machine.
PATIENCE_S = 60.0


@dataclass
class Lab:
    """This machine as a host, and one sandbox whose removal writes a line into a file."""

    switches: Switches
    host: Host
    directory: Path
    removals: Path
    instance: Instance

    async def arm(
        self, *, ends_at: datetime = PAST, command: str = "", seen: SwitchSeen | None = None
    ) -> SwitchSeen:
        """Arm the switch; what removes is *command*, else a line in `removals`."""
        script = command or f"echo gone >>{shlex.quote(str(self.removals))}"
        switch = Switch(expires_at=ends_at, lease_s=LEASE_S, command=("sh", "-c", script))
        guard = Guard(switch=switch)
        armed = await self.switches.follow(self.host, self.instance, guard, seen)
        assert armed is not None
        return armed

    def files(self) -> set[str]:
        """Return the names of the files about the sandbox."""
        return {path.suffix for path in self.directory.glob(f"{SHORT}.*")}

    def watchers(self) -> list[int]:
        """Return the processes that watch here."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[1:3] == [b"watch.sh", str(self.directory).encode()]:
                    found.append(int(entry.name))
        return found


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab whose watchers are gone afterwards."""
    root = tmp_path / "work root"
    root.mkdir(mode=0o700)
    store = await Store.open(tmp_path / "store.db", clock=SystemClock())
    async with open_local_session(root) as session:
        host = local_host(root)

        async def reach(_: Host) -> Session:
            return session

        instance = Instance(
            uid=UID, namespace="default", name="hello", environment=store.environment,
            extension="ext.local", spec_hash="0" * 16, inputs=Inputs(),
        )  # fmt: skip
        made = Lab(
            Switches(store=store, placements=Placements(), reach=reach),
            host,
            root / ".switches" / store.environment,
            tmp_path / "removals",
            instance,
        )
        yield made
        await made.switches.disarm(host, [UID])
        await until(lambda: not made.watchers())
    await store.close()


async def until(
    holds: Callable[[], bool], meanwhile: Callable[[], Awaitable[object]] | None = None
) -> None:
    """Wait until something holds, and do something again and again meanwhile."""
    deadline = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(0.1)


async def test_expired_is_taken_away_once_nobody_renews(lab: Lab) -> None:
    """While somebody renews nothing is done, for longer than a lease; afterwards it is, once."""
    await lab.arm()
    end = monotonic() + 2.5 * LEASE_S
    while monotonic() < end:
        await lab.switches.ask(lab.host)
        await asyncio.sleep(0.2)
    renewed = lab.files()

    await until(lambda: lab.files() == {".fired"})

    assert renewed == {".switch"}
    assert lab.removals.read_text() == "gone\n"
    await until(lambda: not lab.watchers())


async def test_what_has_not_expired_stays(lab: Lab) -> None:
    """Without a controller, too, nothing goes before its time."""
    ends_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3 * LEASE_S)
    await lab.arm(ends_at=ends_at)

    await until(lambda: ".fired" in lab.files())

    decided_s = int((lab.directory / f"{SHORT}.fired").read_text().split()[0])
    assert decided_s >= int(ends_at.timestamp())


async def test_clock_that_jumps_ends_no_lease(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set years ahead makes everything expired, and nothing unattended."""
    ahead = tmp_path / "ahead"
    ahead.mkdir()
    (ahead / "date").write_text("#!/bin/sh\necho 4000000000\n")
    (ahead / "date").chmod(0o755)
    # The watcher takes the programs of whom it was armed by.
    monkeypatch.setenv("PATH", f"{ahead}:{os.environ['PATH']}")
    await lab.arm(ends_at=FAR)

    end = monotonic() + 2 * LEASE_S
    while monotonic() < end:
        await lab.switches.ask(lab.host)
        await asyncio.sleep(0.2)
    while_renewed = lab.files()
    await until(lambda: lab.files() == {".fired"})

    assert while_renewed == {".switch"}
    assert lab.removals.read_text() == "gone\n"


async def test_lease_of_an_earlier_boot_counts_from_the_boot(lab: Lab) -> None:
    """After a reboot a lease says nothing; this machine has been up for longer than one."""
    await lab.arm()

    (lab.directory / "lease").write_text("another-boot 99999999999\n")

    await until(lambda: lab.files() == {".fired"})


async def test_removal_does_not_begin_after_a_renewal(lab: Lab, tmp_path: Path) -> None:
    """What was decided while nobody renewed waits for its turn, and is theirs who renew meanwhile."""
    begun = tmp_path / "begun"
    renewed = tmp_path / "renewed"
    await lab.arm(
        command=f"echo >>{shlex.quote(str(begun))}; "
        f"until [ -e {shlex.quote(str(renewed))} ]; do sleep 0.1; done; sleep 3; exit 1"
    )
    # Another one that was decided, and whose turn comes right after the first.
    second = lab.directory / "sbx-ffffffffffff.firing"
    # Its lease is longer, so that it is never the first.
    header = f"#1 {UID} {int(PAST.timestamp())} {LEASE_S + 2}"
    second.write_text(f"{header}\necho gone >>{shlex.quote(str(lab.removals))}\n")

    await until(begun.exists)
    await lab.switches.ask(lab.host)
    renewed.touch()
    end = monotonic() + 2 * LEASE_S
    while monotonic() < end:
        await lab.switches.ask(lab.host)
        await asyncio.sleep(0.2)

    assert second.exists()
    assert not lab.removals.exists()
    second.unlink()


async def test_disarmed_switch_does_nothing(lab: Lab) -> None:
    """A torn down sandbox has none, and the watcher goes with the last one."""
    await lab.arm()
    await lab.switches.disarm(lab.host, [UID])

    await until(lambda: not lab.watchers())

    assert lab.files() == set()
    assert not lab.removals.exists()


async def test_killed_watcher_is_started_by_the_next_renewal(lab: Lab) -> None:
    """There is one watcher, whatever happens to it."""
    # Far away: a slow machine lets a lease run out, and a watcher that has nothing left to do goes.
    await lab.arm(ends_at=FAR)
    await until(lambda: bool(lab.watchers()))
    # Until it runs its next program, a child looks like its parent.
    first = min(lab.watchers())
    os.kill(first, signal.SIGKILL)
    await until(lambda: first not in lab.watchers())

    await until(lambda: len(lab.watchers()) == 1, lambda: lab.switches.ask(lab.host))

    assert first not in lab.watchers()


async def test_removal_that_fails_is_tried_again_until_somebody_renews(lab: Lab) -> None:
    """It is written down that it was decided; who comes back finds it, and finishes it himself."""
    tries = lab.removals
    await lab.arm(command=f"echo try >>{shlex.quote(str(tries))}; exit 1")
    await until(lambda: tries.exists() and tries.read_text().count("try") >= 2)

    await lab.switches.ask(lab.host)
    await until(
        lambda: lab.files() == {".fired", ".firing", ".log"}, lambda: lab.switches.ask(lab.host)
    )
    count = tries.read_text().count("try")
    end = monotonic() + 1.5 * LEASE_S
    while monotonic() < end:
        await lab.switches.ask(lab.host)
        await asyncio.sleep(0.2)

    # One that had begun before the renewal may have ended after it.
    assert tries.read_text().count("try") <= count + 1


async def test_two_renewals_and_a_watcher_at_once(lab: Lab) -> None:
    """Whoever comes at the same time, one watcher is there and every answer is whole."""
    await lab.arm(ends_at=FAR)

    await asyncio.gather(*(lab.switches.ask(lab.host) for _ in range(8)))

    await until(lambda: len(lab.watchers()) == 1)


async def test_switches_of_unknown_sandboxes_are_renewed(lab: Lab) -> None:
    """They may be work from after the backup that a store was restored from."""
    await lab.arm()
    # A controller that has just begun, and knows no sandbox.
    begun = Switches(store=lab.switches.store, placements=Placements(), reach=lab.switches.reach)
    end = monotonic() + 2 * LEASE_S
    while monotonic() < end:
        await begun.renew(lab.host)
        await asyncio.sleep(0.2)

    assert lab.files() == {".switch"}


async def test_damaged_file_hides_no_other(lab: Lab) -> None:
    """What a program wrote among the switches is left out; the others are seen and renewed."""
    await lab.arm(ends_at=FAR)
    (lab.directory / "sbx-ffffffffffff.fired").write_text("odd\n")

    seen = await lab.arm(ends_at=FAR)

    assert seen.expires_at == FAR
    (lab.directory / "sbx-ffffffffffff.fired").unlink()


async def test_host_that_cannot_say_holds_nothing_up(lab: Lab) -> None:
    """Whoever asks about one sandbox goes on without news when the host answers, but not to that."""
    await lab.arm(ends_at=FAR)
    lock = lab.directory / "lock"
    lock.unlink()
    lock.mkdir()

    with pytest.raises(TransientError, match="cannot be reached"):
        await lab.switches.ask(lab.host)
    told = await lab.switches.ask_about(lab.host, sandbox())

    lock.rmdir()
    assert told is None


async def test_other_work_root_leaves_no_switch_behind(lab: Lab, tmp_path: Path) -> None:
    """A switch that stayed would take the sandbox away from under a controller that renews another."""
    seen = await lab.arm(ends_at=FAR)
    root = tmp_path / "another root"
    root.mkdir(mode=0o700)
    async with open_local_session(root) as session:

        async def reach(_: Host) -> Session:
            return session

        lab.switches.reach = reach
        moved = replace(lab, directory=root / ".switches" / lab.instance.environment)
        await moved.arm(ends_at=FAR, seen=seen)

        assert lab.files() == set()
        assert moved.files() == {".switch"}
        await moved.switches.disarm(moved.host, [UID])
        await until(lambda: not moved.watchers() and not lab.watchers())
