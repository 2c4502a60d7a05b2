"""One soak: the wishes, the strokes, the end, and the verdict."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.installation import Installation
from tests.rig import Rig
from tests.soak.harm import Harm, processes
from tests.soak.neighbours import Neighbours
from tests.soak.relays import Relays, opened
from tests.soak.schedule import Stroke, schedule
from tests.soak.trouble import Trouble
from tests.soak.verdict import Api, ApiError, Verdict
from tests.soak.wishes import Wishes

# Seconds between two looks at the names and uids there are.
_LOOK_S = 10.0

# Seconds something must have been an orphan until the controller reaps it; short, so that reaping
# happens during the run.
_ORPHAN_GRACE = "10s"

# Seconds after which it must have converged. A backoff may have grown to 300 s, and after it the
# work is still to be done.
_CONVERGE_S = 420.0
_CONVERGE_EACH_S = 3.0

# Seconds between two lines about what has not converged yet.
_TELL_S = 30.0

# Problems printed.
_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a soak is asked for."""

    seed: int
    sandboxes: int
    length_s: float
    compose_share: float = 0.5
    gap_s: float = 3.0
    """Mean seconds between two strokes."""


@dataclass
class Soak:
    """Everything of one run."""

    plan: Plan
    rig: Rig
    installation: Installation
    wishes: Wishes
    trouble: Trouble
    harm: Harm
    verdict: Verdict
    uids: defaultdict[str, set[str]]
    counts: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    looked: float = 0.0
    ended: int = 0
    """Controllers that ended by themselves."""

    def run(self) -> list[str]:
        """Do it all and return what is wrong in the end."""
        say(f"seed {self.plan.seed}: {self.plan.sandboxes} sandboxes, {self.plan.length_s:.0f} s")
        self.trouble.start()
        self.wishes.make(self.plan.sandboxes)
        self.began = time.monotonic()
        hosts = sorted(self.rig.hosts)
        plan = self.plan
        for stroke in schedule(plan.seed, length_s=plan.length_s, hosts=hosts, gap_s=plan.gap_s):
            if stroke.at_s > plan.length_s:
                break
            self._wait(stroke.at_s)
            self._strike(stroke)
        self._wait(plan.length_s)
        self.wishes.unsay_nonsense()
        self.trouble.end_all()
        say(f"{self._now():6.1f} s all faults end; {self._summary()}")
        return self._judge()

    def _wait(self, until_s: float) -> None:
        """Let time pass until *until_s* after the start, looking now and then."""
        while self._now() < until_s:
            if time.monotonic() - self.looked > _LOOK_S:
                self._look()
            time.sleep(max(0.0, min(0.2, until_s - self._now())))

    def _now(self) -> float:
        return time.monotonic() - self.began

    def _look(self) -> None:
        """Remember which uid each name has, and see that the controller lives."""
        self.looked = time.monotonic()
        controller = self.installation._controller
        if controller is not None and controller.poll() is not None:
            self.ended += 1
            self.trouble.runs = False
            self.trouble.start()
        try:
            for name, document in self.verdict.api.sandboxes().items():
                self.uids[name].add(document["metadata"]["uid"])
        except ApiError:
            return

    def _strike(self, stroke: Stroke) -> None:
        if stroke.host in self.trouble.silent and not stroke.cures:
            return
        begun_s = self._now()
        try:
            done = self._do(stroke)
        except subprocess.TimeoutExpired as error:
            done = f"(not in time: {error.timeout:g} s)"
        took_s = self._now() - begun_s
        if not stroke.cures:
            self.counts[stroke.kind] += 1
        late = f" [took {took_s:.1f} s]" if took_s > 1 else ""
        say(f"{self._now():6.1f} s {str(stroke)[9:]} {done}{late}".rstrip())

    def _do(self, stroke: Stroke) -> str:
        """Do one of them and return what it hit."""
        if self.trouble.strike(stroke):
            return ""
        harmed = self.harm.strike(stroke)
        if harmed is not None:
            return harmed or "(nothing there)"
        return " ".join(self._wish(stroke))

    def _wish(self, stroke: Stroke) -> Sequence[str]:
        """Change what is wanted, two in a hundred at a time."""
        few = max(1, self.plan.sandboxes // 50)
        table: dict[str, Callable[[], Sequence[str]]] = {
            "make": lambda: self.wishes.make(few),
            "edit": lambda: self.wishes.edit(few),
            "delete": lambda: self.wishes.delete(few),
            "suspend": lambda: self.wishes.suspend(few),
        }
        if stroke.kind in table:
            return table[stroke.kind]()
        (self.wishes.unsay_nonsense if stroke.cures else self.wishes.speak_nonsense)()
        return ()

    def _judge(self) -> list[str]:
        ended = time.monotonic()
        deadline = ended + _CONVERGE_S + _CONVERGE_EACH_S * self.plan.sandboxes
        wrong = self._unconverged()
        told = 0.0
        while wrong and time.monotonic() < deadline:
            if time.monotonic() - told > _TELL_S:
                told = time.monotonic()
                say(f"{self._now():6.1f} s {len(wrong)} not as wished yet: {wrong[0][:200]}")
            time.sleep(1.0)
            self._look()
            wrong = self._unconverged()
        say(f"{self._now():6.1f} s it took {time.monotonic() - ended:.0f} s to converge")
        verdict = self.verdict
        if self.ended:
            wrong.append(f"{self.ended} controllers ended by themselves.")
        say(verdict.summary())
        return [*wrong, *verdict.unexplained(), *verdict.bugs()]

    def _unconverged(self) -> list[str]:
        """Return what is not as wished; the hosts are listed only when the documents are right."""
        try:
            return list(self.verdict.unsettled()) or list(self.verdict.misplaced())
        except ApiError as error:
            return [f"The controller's API does not answer: {error}"]

    def _summary(self) -> str:
        strokes = ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
        wishes = self.wishes
        return (
            f"{self.counts.total()} strokes ({strokes}); {self.trouble.starts} controllers; "
            f"{wishes.made} sandboxes made, {wishes.edits} edits, {len(wishes.given_up)} given up"
        )


def soak(plan: Plan, rig: Rig, directory: Path) -> list[str]:
    """Run one soak in an empty directory; return what is wrong in the end, each as a sentence."""
    for name in rig.hosts:
        rig.clean(name)
    neighbours = Neighbours.move_in(rig, _made(directory / "neighbour"))
    installation = Installation(_made(directory / "own"))
    with opened(rig) as relays:
        _name_hosts(installation, rig, relays, directory / "work")
        try:
            return _told(_prepared(plan, rig, relays, installation, neighbours, directory).run())
        finally:
            _take_away(installation, rig)


def say(line: str) -> None:
    """Tell the person who watches."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _prepared(
    plan: Plan, rig: Rig, relays: Relays, installation: Installation, neighbours: Neighbours,
    directory: Path,
) -> Soak:  # fmt: skip
    installation.ok("get", "hosts")  # makes the store
    environment = _environment(installation)
    uids: defaultdict[str, set[str]] = defaultdict(set)
    wishes = Wishes(
        installation, image=rig.image, chance=random.Random(plan.seed),
        compose_share=plan.compose_share, longest_ttl_s=max(4, int(plan.length_s / 2)),
    )  # fmt: skip
    verdict = Verdict(
        rig=rig, installation=installation, api=Api(installation), wishes=wishes,
        neighbours=neighbours, environment=environment, uids=uids,
    )  # fmt: skip
    trouble = Trouble(rig, relays, installation, ("--orphan-grace", _ORPHAN_GRACE))
    harm = Harm(rig, directory / "work", environment)
    return Soak(plan, rig, installation, wishes, trouble, harm, verdict, uids)


def _name_hosts(installation: Installation, rig: Rig, relays: Relays, work: Path) -> None:
    """Say which hosts there are; the file also keeps the directory from ever being empty."""
    hosts: list[dict[str, Any]] = [
        host.manifest(address="127.0.0.1", port=relays.port(name), probeInterval="2s")
        for name, host in rig.hosts.items()
    ]
    spec = {"transport": "local", "workRoot": str(work), "probeInterval": "2s"}
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "local"}}
    hosts.append({**head, "spec": spec})
    (installation.specs / "hosts.yaml").write_text(yaml.safe_dump_all(hosts))


def _environment(installation: Installation) -> str:
    with sqlite3.connect(installation.directory / "data/store.db") as store:
        (environment,) = store.execute("SELECT environment FROM meta").fetchone()
    return str(environment)


def _take_away(installation: Installation, rig: Rig) -> None:
    """Leave nothing: processes of this machine outlive everything else."""
    for path in installation.specs.glob("s*.yaml"):
        path.unlink()
    installation.run("delete", "sandboxes", "--all", "--ignore-not-found", "--no-wait")
    installation.kill()
    for name in rig.hosts:
        rig.clean(name)
    for pids in _left(installation):
        subprocess.run(["kill", "-9", *map(str, pids)], check=False, capture_output=True)


def _left(installation: Installation) -> Iterable[list[int]]:
    return processes(_environment(installation)).values()


def _told(problems: list[str]) -> list[str]:
    for problem in problems[:_SHOWN]:
        say(f"WRONG: {problem}")
    say(f"verdict: {len(problems)} problems" if problems else "verdict: nothing is wrong")
    return problems


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
