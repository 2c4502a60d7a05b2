"""
Pods: what runs in sandboxes, in the form that kubectl and its like know how to look into.

A container of a compose sandbox, or the one process space of another sandbox, is one Pod, named
`<sandbox>-<service>` or `<sandbox>`. Pods are made up from the sandbox's status whenever somebody
asks (`sandboxer.api.podform`); they are not stored, so their resourceVersion is the sandbox's and
nobody can write them.

Design notes:

* A sandbox has Pods once something of it was provisioned; before that kubectl finds nothing.
* Two sandboxes can lay claim to one name (`a` with service `b-c`, `a-b` with service `c`). The
  sandbox with the longest name has it, the other's container is reached through its Sandbox.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sandboxer.api.cells import age
from sandboxer.api.podform import GONE, KIND, NAME_MAX, Part, address_of, parts_of, pod_entry
from sandboxer.api.served import Follower, Served, TableColumn
from sandboxer.kinds.meta import Key
from sandboxer.store import Change, Entry, Store

READ_ONLY = "Pods are read-only here; change the Sandbox."

# Sandboxes whose Pods are remembered, about 0.5 KB each: more than live at once, so that those that
# went long ago are forgotten.
MAX_TOLD = 100_000


class Pods:
    """
    All Pods, as `sandboxer.api.served.Collection`.

    Args:
        store: Holds the sandboxes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told = _TOLD.setdefault(store, {})

    @property
    def revision(self) -> int:
        """Newest resourceVersion of the whole store."""
        return self._store.revision

    def get(self, namespace: str, name: str) -> Entry | None:
        """Return one Pod."""
        found = self.find(namespace, name)
        return self._entry(*found) if found else None

    def find(self, namespace: str, name: str) -> tuple[Entry, Part] | None:
        """Return the sandbox and the part that a Pod's name stands for."""
        if len(name) > NAME_MAX:
            return None  # a path may be half a megabyte of hyphens, each one more sandbox to try
        for sandbox in _candidates(name):
            if found := self._part(namespace, sandbox, name):
                return found
        return None

    def _part(self, namespace: str, sandbox: str, name: str) -> tuple[Entry, Part] | None:
        """Return a sandbox with its part of that name, if it has one."""
        entry = self._store.entry(Key("Sandbox", namespace, sandbox))
        parts = parts_of(json.loads(entry.body)) if entry else []
        part = next((part for part in parts if part.name == name), None)
        return (entry, part) if entry and part else None

    def entries(self, namespace: str | None = None) -> Iterable[Entry]:
        """Yield Pods; None means of all namespaces."""
        for sandbox in self._store.entries("Sandbox"):
            if namespace in (None, sandbox.key.namespace):
                yield from self._of(sandbox)

    def follower(self) -> Follower:
        """Return what turns changes of sandboxes into changes of their Pods."""
        return _Following(self).changes

    def _of(self, sandbox: Entry) -> Iterator[Entry]:
        for part in parts_of(json.loads(sandbox.body)):
            if not self.taken(sandbox, part.name):
                self._tell(sandbox.uid, part)
                yield self._entry(sandbox, part)

    def _tell(self, uid: str, part: Part) -> None:
        told = self._told.setdefault(uid, {})
        told[part.name] = part.service
        if len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]

    def taken(self, sandbox: Entry, name: str) -> bool:
        """Tell whether another sandbox has the better claim to a name."""
        namespace, own = sandbox.key.namespace, sandbox.key.name
        longer = (each for each in _candidates(name) if len(each) > len(own))
        return any(self._part(namespace, each, name) for each in longer)

    def told(self, uid: str) -> dict[str, str]:
        """Return every Pod of a sandbox that anybody was told about, with its service."""
        return self._told.get(uid, {})

    def _entry(self, sandbox: Entry, part: Part) -> Entry:
        host = ""
        document = json.loads(sandbox.body)
        if chosen := document.get("status", {}).get("host"):
            found = self._store.entry(Key("Host", "", chosen))
            host = address_of(json.loads(found.body)) if found else ""
        return pod_entry(sandbox, document, part, host_ip=host)


# What clients were told, by store and by uid of the sandbox: a watch that begins later must be able
# to say that a Pod of a list has gone. Names are those of services, so there are few of them.
_TOLD: weakref.WeakKeyDictionary[Store, dict[str, dict[str, str]]] = weakref.WeakKeyDictionary()


class _Following:
    """One watch: remembers which Pods of which sandbox it has shown."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._shown: dict[str, dict[str, str]] = {}

    def changes(self, change: Change) -> Iterable[Change]:
        """Yield what a change of a sandbox means for its Pods."""
        sandbox = change.entry
        if sandbox.key.kind != "Sandbox":
            return
        before = self._shown.get(sandbox.uid)
        known = dict.fromkeys(self._pods.told(sandbox.uid), "") if before is None else before
        gone = change.type == "DELETED"
        now = {entry.key.name: entry for entry in self._pods._of(sandbox)}  # noqa: SLF001 - its other half
        for name in known.keys() | (now.keys() if gone else ()):
            if gone or name not in now:
                yield Change("DELETED", now.get(name) or self._last(sandbox, name), change.revision)
        self._shown[sandbox.uid] = {}
        for name, entry in now.items() if not gone else ():
            content = _content(entry)
            self._shown[sandbox.uid][name] = content
            if known.get(name) != content:
                yield Change("MODIFIED" if name in known else "ADDED", entry, change.revision)
        if gone:
            del self._shown[sandbox.uid]

    def _last(self, sandbox: Entry, name: str) -> Entry:
        part = Part(name=name, service=self._pods.told(sandbox.uid).get(name, ""), seen=GONE)
        return pod_entry(sandbox, json.loads(sandbox.body), part)


def _content(entry: Entry) -> str:
    """Return a digest of what a Pod says, its resourceVersion left out."""
    version = f'"resourceVersion":"{entry.revision}"'.encode()
    return hashlib.sha256(entry.body.replace(version, b"", 1)).hexdigest()


def _candidates(name: str) -> Iterator[str]:
    """Yield the sandboxes a Pod's name may belong to, the longest name first."""
    yield name
    while "-" in name:
        name = name.rpartition("-")[0]
        yield name


def _ready(pod: dict[str, Any], _: datetime) -> str:
    return f"{sum(c['ready'] for c in pod['status']['containerStatuses'])}/1"


def _status_word(pod: dict[str, Any], _: datetime) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    state = pod["status"]["containerStatuses"][0]["state"]
    reason = next((each["reason"] for each in state.values() if "reason" in each), "")
    return str(reason or pod["status"]["phase"])


def _age(pod: dict[str, Any], now: datetime) -> str:
    return age(pod["metadata"]["creationTimestamp"], now)


SERVED = Served(
    group="",
    version="v1",
    kind=KIND,
    plural="pods",
    namespaced=True,
    collection=Pods,
    short_names=("po",),
    categories=("all",),
    subresources=("log", "exec", "portforward"),
    selectable=("spec.nodeName", "status.phase"),
    table=(
        TableColumn("Name", lambda pod, _: pod["metadata"]["name"]),
        TableColumn("Ready", _ready, description="Whether it runs and passes its health check."),
        TableColumn("Status", _status_word),
        TableColumn("Restarts", lambda _, __: 0, type="integer"),
        TableColumn("Age", _age),
        TableColumn("IP", lambda _, __: "<none>", priority=1),
        TableColumn("Node", lambda pod, _: pod["spec"]["nodeName"] or "<none>", priority=1),
    ),
)
