"""
What the conformance suite tries, and the steps it is made of.

A `Subject` is an extension with a place to try it; a `Verb` is a call of the contract with the state
it starts from and the state it must reach. `sandboxer.testing.conformance` puts them together.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from sandboxer.errors import TransientError, Waiting
from sandboxer.extension import Extension, Instance, Observation, State, absent
from sandboxer.session import Connection, Session, Streams
from sandboxer.testing.faults import Call, OpenSession

# Seconds until a test instance must be ready; a slow backend sets its own in `Subject`.
READY_DEADLINE_S = 30.0

# Seconds between two tries of a call that is not done.
RETRY_S = 0.1

# Listens on the port that is its argument, for one connection after the other; busybox has it.
ECHO = ("sh", "-c", 'while :; do busybox nc -l -p "$1" -e cat; done', "sh")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An extension and a place to try it."""

    extension: Extension
    open_session: OpenSession
    """Opens a session of its own with each call; also used in child processes that get killed."""
    make_instance: Callable[[], Instance]
    """Makes an instance with a fresh uid in `environment`; it must stay running by itself."""
    environment: str
    """Installation the instances belong to; `elsewhere` must not be one."""
    leftovers: Callable[[Instance], Sequence[str]] = lambda _: ()
    """Names of what is still there of an instance, found without the extension."""
    damages: Mapping[str, Callable[[Session, Instance], Awaitable[object]]] = field(
        default_factory=dict
    )
    """Ways to break a running instance behind the extension's back."""
    echo: Sequence[str] = ECHO
    """Program and arguments, the port left out, that listens inside and sends back what comes."""
    ready_deadline_s: float = READY_DEADLINE_S
    """Seconds until an instance must be ready."""


def changed(instance: Instance) -> Instance:
    """Return the same sandbox with another wish, so another spec hash."""
    return replace(instance, spec_hash="c0ffee0123456789", env={**instance.env, "CHANGED": "yes"})


@dataclass(frozen=True, slots=True)
class Verb:
    """A call of the contract, the state it starts from and the state it must reach."""

    needs: State
    reaches: State
    call: Callable[[Subject, Session, Instance], Awaitable[object]]
    capability: str = ""
    wishes: Callable[[Instance], Instance] = lambda instance: instance
    """What is wanted of the instance once the call was made."""

    def prepared(self, subject: Subject, instance: Instance) -> Call:
        """Return the call on *instance*, still without a session."""
        return lambda session: self.call(subject, session, instance)


VERBS: Mapping[str, Verb] = {
    "provision": Verb("Absent", "Running", lambda s, at, i: s.extension.provision(at, i)),
    "repeat": Verb("Running", "Running", lambda s, at, i: s.extension.provision(at, i)),
    "update": Verb(
        "Running", "Running", lambda s, at, i: s.extension.provision(at, changed(i)), "", changed
    ),
    "observe": Verb(
        "Running", "Running", lambda s, at, i: s.extension.observe(at, s.environment, i.uid)
    ),
    "teardown": Verb("Running", "Absent", lambda s, at, i: s.extension.teardown(at, i)),
    "reap": Verb("Running", "Absent", lambda s, at, i: s.extension.reap(at, s.environment, i.uid)),
    "suspend": Verb("Running", "Suspended", lambda s, at, i: s.extension.suspend(at, i), "suspend"),
    "resume": Verb("Suspended", "Running", lambda s, at, i: s.extension.resume(at, i), "suspend"),
}


@dataclass(slots=True)
class Output:
    """Collects what a command prints."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def streams(self) -> Streams:
        """Return streams that end here, with an empty input."""

        async def take_stdout(data: bytes) -> None:
            self.stdout.extend(data)

        async def take_stderr(data: bytes) -> None:
            self.stderr.extend(data)

        return Streams(stdout=take_stdout, stderr=take_stderr)


async def look(subject: Subject, session: Session, uid: str) -> Observation:
    """Return the one observation of *uid*, or that it is absent; two are a failure."""
    seen = await subject.extension.observe(session, subject.environment, uid)
    assert len(seen) <= 1, f"observed twice: {seen}"
    assert all(one.uid == uid for one in seen), f"asked for {uid} and got {seen}"
    return seen[0] if seen else absent(uid)


async def until_done(subject: Subject, session: Session, call: Call) -> None:
    """Call until it returns, as the controller does: what is transient or waiting is asked again."""
    deadline = time.monotonic() + subject.ready_deadline_s
    while True:
        try:
            await call(session)
        except (TransientError, Waiting) as error:
            if time.monotonic() > deadline:
                pytest.fail(f"never done: {error}")
            await asyncio.sleep(RETRY_S)
        else:
            return


async def make_ready(subject: Subject, session: Session, instance: Instance) -> Observation:
    """Provision once, wait until it is ready, and return what is there then."""
    extension = subject.extension
    await extension.provision(session, instance)
    await until_done(subject, session, lambda at: extension.wait_ready(at, instance))
    return await look(subject, session, instance.uid)


async def arrive(subject: Subject, session: Session, instance: Instance, state: State) -> None:
    """Bring a new instance into *state* without faults."""
    if state == "Absent":
        return
    await make_ready(subject, session, instance)
    if state == "Suspended":
        await subject.extension.suspend(session, instance)


async def until_true(subject: Subject, holds: Callable[[], bool]) -> None:
    """Return once *holds*; fail when it does not in time."""
    deadline = time.monotonic() + subject.ready_deadline_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail("it did not come true in time")
        await asyncio.sleep(RETRY_S)


async def until_connected(
    subject: Subject, session: Session, instance: Instance, port: int
) -> Connection:
    """Connect to *port* inside as soon as somebody listens there."""
    connected: list[Connection] = []

    async def connect(at: Session) -> None:
        connected.append(await subject.extension.forward(at, instance, port))

    await until_done(subject, session, connect)
    return connected[0]


def free_port() -> int:
    """Return a port on which nobody listens here; some sandboxes share this machine's ports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
