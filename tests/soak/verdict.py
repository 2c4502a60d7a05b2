"""What is judged in the end: the wishes against the hosts' own lists and what `explain` says."""

from __future__ import annotations

import json
import socket
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from tests.e2e.installation import Installation, condition, is_ready
from tests.rig import Rig
from tests.soak import harm
from tests.soak.listing import Container, list_host
from tests.soak.neighbours import Neighbours
from tests.soak.wishes import Wish, Wishes

_ROOT: Final = "/apis/sandboxer.dev/v1alpha1/namespaces/default"

# Seconds for one answer on a machine that has too much to do.
_API_TIMEOUT_S: Final = 20.0

# Who must have deleted what, by how it was given up; the beginning of `deletedBy`.
_DELETERS: Final = {"file": "source/", "command": "user/local", "expiry": "expiry"}

# What no log of a controller may have.
_BUGS: Final = ("unexpectedly", "Traceback", "never awaited")


class ApiError(Exception):
    """The controller does not answer, or not as it should."""


class Api:
    """The controller's API on its socket, asked as anybody would."""

    def __init__(self, installation: Installation) -> None:
        self._socket = str(installation.directory / "data/sandboxer.sock")

    def sandboxes(self) -> dict[str, dict[str, Any]]:
        """Return all documents by name."""
        items = self._get("/sandboxes")["items"]
        return {item["metadata"]["name"]: item for item in items}

    def tombstones(self) -> list[dict[str, Any]]:
        """Return what is remembered of those that are gone."""
        return list(self._get("/tombstones?limit=10000")["items"])

    def stories(self, name: str) -> list[dict[str, Any]]:
        """Return what is told of everything that ever had that name."""
        return list(self._get(f"/sandboxes/{name}/story?all=true")["items"])

    def _get(self, path: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as way:
            way.settimeout(_API_TIMEOUT_S)
            connection = HTTPConnection("sandboxer")
            connection.sock = way
            try:
                way.connect(self._socket)
                connection.request("GET", _ROOT + path)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, HTTPException) as error:
                raise ApiError(str(error)) from error
        if answer.status != HTTPStatus.OK:
            raise ApiError(f"{path}: {answer.status} {body[:200]!r}")
        return dict(json.loads(body))


@dataclass(kw_only=True)
class Verdict:
    """Judges; every method yields what is wrong, each as a sentence."""

    rig: Rig
    installation: Installation
    api: Api
    wishes: Wishes
    neighbours: Neighbours
    environment: str
    uids: Mapping[str, set[str]]
    """Every uid that was ever seen of a name."""

    def unsettled(self) -> Iterator[str]:
        """Compare the documents with the wishes; nothing is wrong once it has converged."""
        found = self.api.sandboxes()
        yield from (f"{name} is lost." for name in sorted(self.wishes.wanted.keys() - found))
        yield from (f"{name} is there still." for name in sorted(found - self.wishes.wanted.keys()))
        for name, wish in self.wishes.wanted.items():
            if name in found and not _is_as_wished(found[name], wish):
                ready = condition(found[name], "Ready")
                yield f"{name} is {found[name]['status'].get('phase')}: {ready.get('message')}"

    def misplaced(self) -> Iterator[str]:
        """Compare what the engines and the kernel list with the wishes."""
        documents = self.api.sandboxes()
        uids = {document["metadata"]["uid"]: name for name, document in documents.items()}
        for host in self.rig.hosts:
            yield from self._on_host(host, uids, documents)
        yield from self.neighbours.missing(self.rig)
        yield from self._here(uids)

    def unexplained(self) -> Iterator[str]:
        """See that each deletion has its reason, and each sandbox its story."""
        yield from self._wrong_tombstones()
        for name in sorted({*self.wishes.wanted, *self.wishes.given_up}):
            stories = self.api.stories(name)
            if len(stories) != 1:
                yield f"{name}: {len(stories)} sandboxes had that name, and one was wanted."
            for story in stories:
                yield from _wrong_story(name, story, gone=name in self.wishes.given_up)
        for name, uids in self.uids.items():
            if len(uids) > 1:
                yield f"{name} was replaced by another one: {', '.join(sorted(uids))}."

    def summary(self) -> str:
        """Say in numbers what was judged."""
        stones = self.api.tombstones()
        deleters = Counter(stone["deletedBy"].partition("-")[0] for stone in stones)
        told = [
            transition["reason"]
            for name in (*self.wishes.wanted, *self.wishes.given_up)
            for story in self.api.stories(name)
            for transition in story.get("transitions") or ()
        ]
        gone = ", ".join(f"{count} by {who}" for who, count in sorted(deleters.items()))
        reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(told).most_common(12))
        return (
            f"{len(self.wishes.wanted)} are there, {len(stones)} gone ({gone or 'none'}); "
            f"{len(told)} transitions ({reasons})"
        )

    def bugs(self) -> Iterator[str]:
        """Look for what the controllers did not expect."""
        log = self.installation.log.read_text(errors="replace")
        for number, line in enumerate(log.splitlines(), 1):
            if any(word in line for word in _BUGS):
                yield f"{self.installation.log}:{number}: {line[:300]}"

    def _on_host(
        self, host: str, uids: Mapping[str, str], documents: Mapping[str, Any]
    ) -> Iterator[str]:
        listing = list_host(self.rig, host)
        foreign = self.neighbours.things[host]
        ours = [
            each for id_, each in listing.containers.items() if f"container {id_}" not in foreign
        ]
        for uid, count in Counter(each.uid for each in ours).items():
            if count > 1:
                yield f"{host}: {uids.get(uid, uid)} has {count} containers."
        for each in ours:
            yield from self._wrong_container(host, each, uids.get(each.uid), documents)
        there = {each.uid for each in ours}
        placed = {
            uid for uid, name in uids.items() if documents[name]["status"].get("host") == host
        }
        yield from (f"{host}: {uids[uid]} has no container." for uid in sorted(placed - there))
        wanted = {harm.short_id(uid) for uid in placed}
        for thing in sorted(listing.others - foreign):
            if not any(name in thing for name in wanted):
                yield f"{host}: {thing} belongs to nobody."

    def _wrong_container(
        self, host: str, container: Container, name: str | None, documents: Mapping[str, Any]
    ) -> Iterator[str]:
        wish = self.wishes.wanted.get(name or "")
        if name is None or wish is None:
            yield f"{host}: container {container.id} (uid {container.uid}) belongs to nobody."
            return
        if documents[name]["status"].get("host") != host:
            yield f"{host}: {name} has a container here, and its place is elsewhere."
        if wish.suspended != (container.state != "running"):
            yield f"{host}: {name} is {container.state}."
        if not wish.suspended and container.version != str(wish.version):
            yield f"{host}: {name} has version {container.version} instead of {wish.version}."

    def _here(self, uids: Mapping[str, str]) -> Iterator[str]:
        processes = harm.processes(self.environment)
        running = {
            uid: name
            for uid, name in uids.items()
            if (wish := self.wishes.wanted.get(name)) is not None
            and (wish.backend, wish.suspended) == ("local", False)
        }
        for uid in sorted(processes.keys() - running):
            yield f"local: processes {processes[uid]} (uid {uid}) belong to nobody."
        yield from (f"local: {running[uid]} does not run." for uid in running.keys() - processes)
        for uid, pids in processes.items():
            # What encloses the command has no variables of the sandbox.
            versions = {harm.version(pid) for pid in pids} - {""}
            if uid in running and versions != {str(self.wishes.wanted[running[uid]].version)}:
                yield f"local: {running[uid]} runs versions {sorted(versions)}."

    def _wrong_tombstones(self) -> Iterator[str]:
        stones = defaultdict(list)
        for stone in self.api.tombstones():
            stones[stone["name"]].append(stone)
        for name, found in stones.items():
            wish = self.wishes.given_up.get(name)
            if wish is None:
                yield f"{name} was deleted by {found[0]['deletedBy']}, and nobody wanted that."
            elif not found[0]["deletedBy"].startswith(_deleter(wish)):
                yield f"{name} was deleted by {found[0]['deletedBy']} instead of {_deleter(wish)}."
        for name in self.wishes.given_up.keys() - stones:
            yield f"{name} went without a tombstone."


def _deleter(wish: Wish) -> str:
    return _DELETERS["expiry" if wish.ttl_s else wish.way]


def _is_as_wished(document: dict[str, Any], wish: Wish) -> bool:
    if not wish.suspended:
        return is_ready(document)
    suspended = condition(document, "Suspended")
    newest = suspended.get("observedGeneration") == document["metadata"]["generation"]
    return newest and suspended.get("status") == "True"


def _wrong_story(name: str, story: dict[str, Any], *, gone: bool) -> Iterator[str]:
    told = story.get("transitions") or []
    if not told or told[0]["reason"] != "Created":
        yield f"{name}: its story does not begin with its creation."
    if any(not each["message"] for each in told):
        yield f"{name}: something in its story has no reason."
    if gone != ("tombstone" in story):
        yield f"{name}: its story says that it is {'there' if gone else 'gone'}."
    if told and (told[-1].get("after") or "") != (story.get("phase") or ""):
        yield f"{name} is {story.get('phase')}, and its story ends with {told[-1].get('after')}."
