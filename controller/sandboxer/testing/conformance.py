"""
The public conformance suite: what every extension must survive.

Subclass `ExtensionConformance` in a test module and give it a `subject` fixture. Every call is made
twice, loses its link before and after each of its session calls, and has its process killed during
and after each of them; then it is made again, and the world must be the wanted one. Whatever
happened, teardown must leave nothing. `docs/extension-sdk.md` walks through an example.

The suite judges by `observe`, like the controller, and by `Subject.leftovers`, which looks with
independent eyes. It needs pytest and pytest-asyncio, and real backends: there is nothing to fake.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import pytest_asyncio
from pydantic import SecretStr

from sandboxer.errors import TerminalError, TransientError, Waiting
from sandboxer.extension import Instance, Observation
from sandboxer.session import Session
from sandboxer.testing.faults import Moment, killed, lost
from sandboxer.testing.subject import (
    VERBS,
    Output,
    Subject,
    Verb,
    arrive,
    changed,
    free_port,
    look,
    make_ready,
    until_connected,
    until_done,
    until_true,
)

__all__ = ["ExtensionConformance", "Output", "Subject", "make_ready"]

# More session calls than any method should need; ends a loop that would never end.
CALLS_MAX = 60

# Text that means something to a shell, a terminal, a file name, JSON or Python.
HOSTILE_ARGUMENTS = (
    "", " ", "two  blanks", "it's", '"quoted"', "$(id)", "`id`", "$HOME", "a\nb", "tab\there",
    "-n", "--", "*", "~", ";true", "&&", "|", ">x", "\\", "\\n", "%s", "{}", "!!", "ä€😀", "\x01\x7f",
)  # fmt: skip

# The longest manifest there is, of what JSON can hold that means something to a shell.
LONGEST_MANIFEST = json.dumps('it\'s "quoted" $(id) `id` $HOME %s \\n | * ' * 800)[: 16 * 2**10]


class ExtensionConformance:
    """Subclass it, name the class `Test…`, and give it a `subject` fixture."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Return what is tested; every subclass has its own."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def session(self, subject: Subject) -> AsyncIterator[Session]:
        """Open a session, and take away what a failed test left."""
        async with subject.open_session() as session:
            yield session
            for seen in await subject.extension.observe(session, subject.environment):
                await subject.extension.reap(session, subject.environment, seen.uid)

    @pytest.fixture
    def instance(self, subject: Subject) -> Instance:
        """Return a sandbox nobody has heard of."""
        return subject.make_instance()

    # What a call brings about.

    @pytest.mark.asyncio
    async def test_provision_makes_what_observe_sees(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """A provisioned and ready sandbox is Running, with its labels and its spec hash."""
        seen = await make_ready(subject, session, instance)

        assert seen.state == "Running", seen
        assert seen.spec_hash == instance.spec_hash
        assert instance.labels().items() <= seen.labels.items()
        assert seen.resources, "a running sandbox consists of something"
        assert seen.drift == (), "nothing drifted yet"

    @pytest.mark.asyncio
    async def test_provision_twice_changes_nothing(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """The second call finds the work done and answers the same."""
        first = await subject.extension.provision(session, instance)
        before = await make_ready(subject, session, instance)

        second = await subject.extension.provision(session, replace(instance, handle=first.handle))

        assert second == first
        assert await look(subject, session, instance.uid) == before

    @pytest.mark.asyncio
    async def test_changed_spec_replaces(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """Another spec hash leads to the same sandbox in the new form, never to a second one."""
        await make_ready(subject, session, instance)

        seen = await make_ready(subject, session, changed(instance))

        assert (seen.state, seen.spec_hash) == ("Running", changed(instance).spec_hash)
        everything = await subject.extension.observe(session, subject.environment)
        assert [one.uid for one in everything] == [instance.uid]

    @pytest.mark.asyncio
    async def test_two_provisions_at_once(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """A command left over from a dead controller beside a new one makes no second sandbox."""
        calls = (subject.extension.provision(session, instance) for _ in range(2))
        ends = await asyncio.gather(*calls, return_exceptions=True)

        assert all(
            isinstance(end, TransientError | Waiting) for end in ends if isinstance(end, Exception)
        )
        seen = await make_ready(subject, session, instance)
        assert (seen.state, seen.spec_hash) == ("Running", instance.spec_hash)

    @pytest.mark.asyncio
    async def test_damage_is_seen_and_repaired(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """What was broken behind our back is not Running, or told as drift; provision mends it."""
        for name, damage in subject.damages.items():
            await make_ready(subject, session, instance)
            await damage(session, instance)

            broken = await look(subject, session, instance.uid)
            mended = await make_ready(subject, session, instance)

            states = ("Incomplete", "Stopped", "Starting", "Absent")
            assert broken.state in states or broken.drift, name
            assert (mended.state, mended.drift) == ("Running", ()), name

    # How a sandbox goes away.

    @pytest.mark.asyncio
    async def test_teardown_twice_leaves_nothing(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """After teardown nothing is there, and a second teardown is content with that."""
        await make_ready(subject, session, instance)

        for _ in range(2):
            await subject.extension.teardown(session, instance)
            await self._assert_gone(subject, session, instance)

    @pytest.mark.asyncio
    async def test_absent_is_success(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """What never was can be torn down and reaped."""
        await subject.extension.teardown(session, instance)
        await subject.extension.reap(session, subject.environment, instance.uid)

        await self._assert_gone(subject, session, instance)

    @pytest.mark.asyncio
    async def test_reap_knows_only_the_uid(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """An orphan goes without its manifest and its handle."""
        await make_ready(subject, session, instance)

        await subject.extension.reap(session, subject.environment, instance.uid)

        await self._assert_gone(subject, session, instance)

    @pytest.mark.asyncio
    async def test_reap_refuses_another_environment(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """The sandbox of another installation is refused and stays as it is."""
        before = await make_ready(subject, session, instance)

        with pytest.raises(TerminalError):
            await subject.extension.reap(session, "elsewhere", instance.uid)

        assert await look(subject, session, instance.uid) == before

    @pytest.mark.asyncio
    async def test_teardown_of_a_part(self, subject: Subject, session: Session) -> None:
        """What a provision that was killed after any call left behind goes without a rest."""
        for at in range(1, CALLS_MAX):
            instance = subject.make_instance()
            verb = VERBS["provision"].prepared(subject, instance)
            struck = killed(subject.open_session, verb, at=at, moment="after")

            await subject.extension.teardown(session, instance)

            await self._assert_gone(subject, session, instance)
            if not struck:
                return
        pytest.fail(f"provision makes more than {CALLS_MAX} session calls")

    # What is seen.

    @pytest.mark.asyncio
    async def test_observe_keeps_environments_apart(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """An installation sees its own sandboxes and nobody else's."""
        await make_ready(subject, session, instance)

        ours = await subject.extension.observe(session, subject.environment)
        theirs = await subject.extension.observe(session, "elsewhere")
        theirs_by_uid = await subject.extension.observe(session, "elsewhere", instance.uid)

        assert [one.uid for one in ours] == [instance.uid]
        assert (list(theirs), list(theirs_by_uid)) == ([], [])

    @pytest.mark.asyncio
    async def test_observe_all_and_one_agree(self, subject: Subject, session: Session) -> None:
        """All at once are seen as each is seen alone."""
        instances = [subject.make_instance() for _ in range(3)]
        for instance in instances:
            await make_ready(subject, session, instance)

        together = await subject.extension.observe(session, subject.environment)

        alone = [await look(subject, session, instance.uid) for instance in instances]
        assert sorted(together, key=_by_uid) == sorted(alone, key=_by_uid)

    # What is left when the store is lost.

    @pytest.mark.asyncio
    async def test_manifest_comes_back(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """What was told to be kept is read back of one uid, follows a change, and costs no probe."""
        extension = subject.extension
        for told in (LONGEST_MANIFEST, "{}", ""):
            await make_ready(subject, session, replace(changed(instance), manifest=told))

            seen = await look(subject, session, instance.uid)
            listed = await extension.observe(session, subject.environment)

            assert seen.manifest == told
            assert [one.manifest for one in listed] == [""]

    @pytest.mark.asyncio
    async def test_recall_says_what_provision_said(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """Without its handle, and changing nothing, it says again how to get there and what holds."""
        provisioned = await subject.extension.provision(session, instance)
        before = await make_ready(subject, session, instance)

        said = await subject.extension.recall(session, instance)

        assert (said.handle, said.reachability, said.isolation) == (
            provisioned.handle,
            provisioned.reachability,
            provisioned.isolation,
        )
        assert await look(subject, session, instance.uid) == before

    @pytest.mark.asyncio
    async def test_observe_of_no_environment_is_of_all(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """Whose store was lost does not know its environment, and finds it by the labels."""
        await make_ready(subject, session, replace(instance, manifest=LONGEST_MANIFEST))

        seen = [
            one for one in await subject.extension.observe(session, "") if one.uid == instance.uid
        ]
        alone = await subject.extension.observe(session, "", instance.uid)

        assert [one.labels for one in seen] == [one.labels for one in alone]
        assert instance.labels().items() <= seen[0].labels.items()
        assert [one.manifest for one in alone] == [LONGEST_MANIFEST]

    # What goes wrong.

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("name", VERBS)
    @pytest.mark.asyncio
    async def test_link_lost(
        self, subject: Subject, session: Session, name: str, moment: Moment
    ) -> None:
        """A link lost at any session call ends the call, and the next call finishes the work."""
        verb = self._verb(subject, name)
        for at in range(1, CALLS_MAX):
            instance = subject.make_instance()
            await arrive(subject, session, instance, verb.needs)
            if not await lost(session, verb.prepared(subject, instance), at=at, moment=moment):
                return
            await self._assert_finishes(subject, session, instance, verb)

    # A death before a call is a death after the one before it.
    @pytest.mark.parametrize("moment", ["during", "after"])
    @pytest.mark.parametrize("name", VERBS)
    @pytest.mark.asyncio
    async def test_process_killed(
        self, subject: Subject, session: Session, name: str, moment: Moment
    ) -> None:
        """A controller killed at any session call is followed by one that finishes the work."""
        verb = self._verb(subject, name)
        for at in range(1, CALLS_MAX):
            instance = subject.make_instance()
            await arrive(subject, session, instance, verb.needs)
            call = verb.prepared(subject, instance)
            if not killed(subject.open_session, call, at=at, moment=moment):
                return
            await self._assert_finishes(subject, session, instance, verb)

    # What is optional.

    @pytest.mark.asyncio
    async def test_suspend_and_resume(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """A suspended sandbox is whole and does not run; resumed it is as before; both may be repeated."""
        _needs(subject, "suspend")
        await make_ready(subject, session, instance)

        for _ in range(2):
            await subject.extension.suspend(session, instance)
            assert (await look(subject, session, instance.uid)).state == "Suspended"
        for _ in range(2):
            await subject.extension.resume(session, instance)
            seen = await look(subject, session, instance.uid)
            assert (seen.state, seen.spec_hash) == ("Running", instance.spec_hash)

    @pytest.mark.asyncio
    async def test_suspended_can_be_torn_down(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """A suspended sandbox goes like a running one."""
        _needs(subject, "suspend")
        await arrive(subject, session, instance, "Suspended")

        await subject.extension.teardown(session, instance)

        await self._assert_gone(subject, session, instance)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("status", [0, 1, 42, 255])
    async def test_exec_returns_the_exit_status(
        self, subject: Subject, session: Session, instance: Instance, status: int
    ) -> None:
        """The exit status of the command arrives as it is."""
        _needs(subject, "exec")
        await make_ready(subject, session, instance)
        argv = ["sh", "-c", f"exit {status}"]

        assert await subject.extension.exec(session, instance, argv, Output().streams()) == status

    @pytest.mark.asyncio
    async def test_exec_gives_arguments_exactly(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """No shell on the way reads anything in the arguments."""
        _needs(subject, "exec")
        await make_ready(subject, session, instance)
        output = Output()
        script = 'for a in "$@"; do printf "%s\\n--\\n" "$a"; done'
        argv = ["sh", "-c", script, "sh", *HOSTILE_ARGUMENTS]

        await subject.extension.exec(session, instance, argv, output.streams())

        assert output.stdout.decode() == "".join(f"{a}\n--\n" for a in HOSTILE_ARGUMENTS)

    @pytest.mark.asyncio
    async def test_exec_keeps_streams_apart(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """Output, error output and input are three things."""
        _needs(subject, "exec")
        await make_ready(subject, session, instance)
        output = Output()

        async def typed() -> AsyncIterator[bytes]:
            yield b"in\x00put\xff"

        streams = replace(output.streams(), stdin=typed())
        await subject.extension.exec(session, instance, ["sh", "-c", "cat; echo e >&2"], streams)

        assert (bytes(output.stdout), bytes(output.stderr)) == (b"in\x00put\xff", b"e\n")

    @pytest.mark.asyncio
    async def test_hostile_environment(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """Variables and secrets arrive byte for byte, and a secret shows nowhere else."""
        _needs(subject, "exec")
        secret = f"s3cret-{uuid.uuid4()}"
        env = {f"HOSTILE_{n}": text for n, text in enumerate(HOSTILE_ARGUMENTS)}
        wished = replace(instance, env=env, secrets={"SECRET": SecretStr(secret)})
        provisioned = await subject.extension.provision(session, wished)
        seen = await make_ready(subject, session, wished)
        output = Output()
        names = " ".join(f'"${{{name}}}"' for name in (*env, "SECRET"))
        argv = ["sh", "-c", f"printf '%s\\n--\\n' {names}"]

        await subject.extension.exec(session, wished, argv, output.streams())

        expected = (*HOSTILE_ARGUMENTS, secret)
        assert output.stdout.decode() == "".join(f"{text}\n--\n" for text in expected)
        assert secret not in repr((provisioned, seen))

    @pytest.mark.asyncio
    async def test_exec_ends_with_its_caller(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """A call that is cancelled takes the command with it, and what that has started."""
        _needs(subject, "exec")
        await make_ready(subject, session, instance)
        output = Output()
        # Each line is a sign of life of a child, whose parent waits for it.
        script = 'sh -c "while :; do date >>alive; sleep 0.1; done" & echo began; wait'
        call = subject.extension.exec(session, instance, ["sh", "-c", script], output.streams())
        running = asyncio.create_task(call)
        await until_true(subject, lambda: b"began" in output.stdout)

        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert running.cancelled()
        last = await self._said(subject, session, instance, "cat alive; sleep 1; echo; cat alive")
        before, after = last.split(b"\n\n")
        assert before.strip() == after.strip()

    @pytest.mark.asyncio
    async def test_forward_reaches_a_program(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """Bytes go both ways, and each direction ends on its own."""
        _needs(subject, "forward")
        await make_ready(subject, session, instance)
        port, sent = free_port(), bytes(range(256)) * 1000
        async with self._listening(subject, session, instance, port):
            connection = await until_connected(subject, session, instance, port)
            await connection.write(sent)
            connection.write_eof()
            received = bytearray()
            while data := await connection.read():
                received += data
            connection.close()

        assert received == sent

    @pytest.mark.asyncio
    async def test_forward_to_nobody(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """A port on which nothing listens is an error that may pass."""
        _needs(subject, "forward")
        await make_ready(subject, session, instance)

        with pytest.raises(TransientError):
            await subject.extension.forward(session, instance, free_port())

    @pytest.mark.asyncio
    async def test_removal_without_a_controller(
        self, subject: Subject, session: Session, instance: Instance
    ) -> None:
        """What a host runs by itself at the end leaves nothing, run again as well, and no other."""
        _needs(subject, "removal")
        command = subject.extension.removal(session.facts, instance)
        if not command:
            pytest.skip(f"{subject.extension.name} leaves no such sandbox to its host")
        other = subject.make_instance()
        for one in (instance, other):
            await make_ready(subject, session, one)

        statuses = [(await session.run(command)).exit_status for _ in range(2)]

        assert statuses == [0, 0]
        await self._assert_gone(subject, session, instance)
        assert (await look(subject, session, other.uid)).state == "Running"
        await subject.extension.teardown(session, other)

    # How the suite judges.

    async def _said(
        self, subject: Subject, session: Session, instance: Instance, script: str
    ) -> bytes:
        output = Output()
        argv = ["sh", "-c", script]
        assert await subject.extension.exec(session, instance, argv, output.streams()) == 0
        return bytes(output.stdout)

    @asynccontextmanager
    async def _listening(
        self, subject: Subject, session: Session, instance: Instance, port: int
    ) -> AsyncIterator[None]:
        argv = [*subject.echo, str(port)]
        call = subject.extension.exec(session, instance, argv, Output().streams())
        running = asyncio.create_task(call)
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _verb(self, subject: Subject, name: str) -> Verb:
        verb = VERBS[name]
        _needs(subject, verb.capability)
        return verb

    async def _assert_finishes(
        self, subject: Subject, session: Session, instance: Instance, verb: Verb
    ) -> None:
        """Call again, as the next pass would; the state is reached, and teardown leaves nothing."""
        await until_done(subject, session, verb.prepared(subject, instance))
        if verb.reaches != "Absent":
            wished = verb.wishes(instance)
            if verb.reaches == "Running":
                call = subject.extension.wait_ready
                await until_done(subject, session, lambda at: call(at, wished))
            seen = await look(subject, session, instance.uid)
            assert (seen.state, seen.spec_hash) == (verb.reaches, wished.spec_hash), seen
            await subject.extension.teardown(session, instance)
        await self._assert_gone(subject, session, instance)

    async def _assert_gone(self, subject: Subject, session: Session, instance: Instance) -> None:
        seen = await look(subject, session, instance.uid)
        assert seen.state == "Absent", seen
        assert list(subject.leftovers(instance)) == []


def _needs(subject: Subject, capability: str) -> None:
    if capability and capability not in subject.extension.capabilities:
        pytest.skip(f"{subject.extension.name} does not offer {capability}")


def _by_uid(seen: Observation) -> str:
    return seen.uid
