"""What is wanted, as the people behind the commands know it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.e2e.installation import Installation

Backend = Literal["compose", "local"]
Way = Literal["file", "command"]
"""How a wish is told: a file in the watched directory, or `sandboxer apply`."""

# Of ten sandboxes told by command, how many end by themselves.
_EXPIRING = 2

# Tries of a command whose controller is killed meanwhile; every one of them is idempotent.
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """One sandbox that is wanted."""

    name: str
    backend: Backend
    way: Way
    version: int = 0
    suspended: bool = False
    ttl_s: int = 0
    """Lifetime; 0 is for ever."""


class Wishes:
    """
    Everything that is wanted and what was given up.

    Args:
        installation: Where it is told.
        image: What containers are made of.
        chance: Decides about all of it.
        compose_share: Part of the sandboxes that are compose projects; the others are processes
            on this machine.
        longest_ttl_s: Longest lifetime of those that end by themselves.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        image: str,
        chance: random.Random,
        compose_share: float,
        longest_ttl_s: int,
    ) -> None:
        self.wanted: dict[str, Wish] = {}
        self.given_up: dict[str, Wish] = {}
        """By name; those that end by themselves are among them from the beginning."""
        self.edits = 0
        self._installation = installation
        self._image = image
        self._chance = chance
        self._compose_share = compose_share
        self._longest_ttl_s = longest_ttl_s
        self._made = 0

    @property
    def made(self) -> int:
        """How many sandboxes were ever wanted."""
        return self._made

    def make(self, count: int) -> list[str]:
        """Want more of them."""
        new = [self._new() for _ in range(count)]
        self._tell(new)
        return [wish.name for wish in new]

    def edit(self, count: int) -> list[str]:
        """Want some of them otherwise."""
        changed = [replace(wish, version=wish.version + 1) for wish in self._some(count)]
        self._tell(changed)
        self.edits += len(changed)
        return [wish.name for wish in changed]

    def suspend(self, count: int) -> list[str]:
        """Put some to rest; those at rest shall run again."""
        changed = [replace(wish, suspended=not wish.suspended) for wish in self._some(count)]
        self._tell(changed)
        self.edits += len(changed)
        return [f"{wish.name}={'off' if wish.suspended else 'on'}" for wish in changed]

    def delete(self, count: int) -> list[str]:
        """Want some no longer."""
        gone = self._some(count)
        for wish in gone:
            self.given_up[wish.name] = self.wanted.pop(wish.name)
            if wish.way == "file":
                self._file(wish.name).unlink()
        commanded = [f"sandbox/{wish.name}" for wish in gone if wish.way == "command"]
        if commanded:
            self._command("delete", "--no-wait", "--ignore-not-found", *commanded)
        return [wish.name for wish in gone]

    def speak_nonsense(self) -> None:
        """Put a file into the directory that nobody can read."""
        self._write(self._file("nonsense"), "kind: Sandbox\nspec: {profile: [\n")

    def unsay_nonsense(self) -> None:
        """Take it away again."""
        self._file("nonsense").unlink(missing_ok=True)

    def _new(self) -> Wish:
        name, chance = f"s{self._made}", self._chance
        self._made += 1
        backend: Backend = "compose" if chance.random() < self._compose_share else "local"
        way: Way = chance.choice(("file", "command"))
        ends = way == "command" and chance.randrange(10) < _EXPIRING
        ttl_s = chance.randint(self._longest_ttl_s // 4, self._longest_ttl_s) if ends else 0
        return Wish(name, backend, way, ttl_s=ttl_s)

    def _some(self, count: int) -> list[Wish]:
        names = sorted(self.wanted)
        return [self.wanted[name] for name in self._chance.sample(names, min(count, len(names)))]

    def _tell(self, wishes: list[Wish]) -> None:
        for wish in wishes:
            (self.given_up if wish.ttl_s else self.wanted)[wish.name] = wish
            if wish.way == "file":
                self._write(self._file(wish.name), yaml.safe_dump(self._document(wish)))
        documents = [self._document(wish) for wish in wishes if wish.way == "command"]
        if documents:
            self._command("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def _document(self, wish: Wish) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "profile": "profile.compose-e2e" if wish.backend == "compose" else "profile.local",
            "env": {"VERSION": str(wish.version)},
            "operatingMode": "Suspended" if wish.suspended else "Running",
        }
        if wish.backend == "compose":
            service = {"image": self._image, "command": "sleep 100000", "volumes": ["d:/d"]}
            compose = {"services": {"main": service}, "volumes": {"d": {}}}
            spec["inputs"] = {"compose": json.dumps(compose)}
            spec["placement"] = {"hostSelector": {"matchLabels": {"rig": "true"}}}
        # NOTE: a profile may have a lifetime of its own; for ever has to be said.
        spec["lifetime"] = {"ttl": f"{wish.ttl_s or 86400}s"}
        head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox"}
        return {**head, "metadata": {"name": wish.name}, "spec": spec}

    def _file(self, name: str) -> Path:
        return self._installation.specs / f"{name}.yaml"

    def _write(self, path: Path, text: str) -> None:
        """Write as editors and git do, so that half a file is never seen."""
        unfinished = path.with_suffix(".new")
        unfinished.write_text(text)
        unfinished.rename(path)

    def _command(self, *arguments: str, stdin: str = "") -> None:
        for _ in range(_TRIES):
            done = self._installation.run(*arguments, stdin=stdin)
            if done.returncode == 0:
                return
        raise AssertionError(f"sandboxer {arguments}: {done.stdout}{done.stderr}")
