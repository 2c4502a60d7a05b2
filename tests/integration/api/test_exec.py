"""kubectl and client libraries inside sandboxes: exec, cp, logs; near by ext.local, far over SSH."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pty
import random
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.stream import stream

from sandboxer.client.paths import path_of
from sandboxer.client.server import Server
from sandboxer.client.streams import execute
from sandboxer.errors import NotFoundError, UnreachableError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.session import Streams
from tests.integration.api.streams_lab import PATIENCE_S, Lab, until
from tests.integration.api.streams_places import HOST, lab
from tests.rig import Rig

__all__ = ["lab"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = pytest.mark.parametrize("pod", ["near", "far-app"])


def processes(rig: Rig, pod: str, words: str) -> list[str]:
    """Return the pids of programs with these arguments, as the pod's machine sees them."""
    # The first letter in brackets keeps the search from finding itself.
    search = f"pgrep -f '^[{words[0]}]{words[1:]}' || true"
    if pod.startswith("far"):
        return rig.ssh(HOST, search).stdout.split()
    done = subprocess.run(["sh", "-c", search], capture_output=True, text=True, check=True)
    return done.stdout.split()


@PLACES
async def test_kubectl_exec_passes_output_and_exit_code(lab: Lab, pod: str) -> None:
    """Both outputs and the exit code arrive as they are."""
    command = ["sh", "-c", "echo out; echo err >&2; exit 7"]

    ended = await lab.kubectl("exec", pod, "--", *command)

    assert (ended.code, ended.stdout) == (7, b"out\n")
    assert ended.stderr.startswith("err\n")


@PLACES
async def test_arguments_arrive_exactly(lab: Lab, pod: str) -> None:
    """No shell on the way reads the arguments."""
    hostile = ["", "two  blanks", "it's", "$(id)", "a\nb", "-n", "--", "%s", "ä€😀", "a&b=c+d"]
    script = 'for a in "$@"; do printf "%s|" "$a"; done'

    ended = await lab.kubectl("exec", pod, "--", "sh", "-c", script, "sh", *hostile)

    assert ended.text == "".join(f"{word}|" for word in hostile)


@PLACES
async def test_large_input_arrives_whole(lab: Lab, pod: str) -> None:
    """20 MB on stdin arrive byte for byte, and so does their end."""
    data = random.Random(1).randbytes(20_000_000)

    ended = await lab.kubectl("exec", "-i", pod, "--", "sha256sum", stdin=data)

    assert ended.code == 0, ended.stderr
    assert ended.text.split()[0] == hashlib.sha256(data).hexdigest()


@PLACES
async def test_large_output_arrives_whole(lab: Lab, pod: str) -> None:
    """20 MB of output arrive, although their reader is slower than what prints them."""
    command = ["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x"]

    ended = await lab.kubectl("exec", pod, "--", *command)

    assert ended.stdout == b"x" * 20_000_000


@PLACES
async def test_copies_both_ways(lab: Lab, pod: str, tmp_path: Path) -> None:
    """`kubectl cp` brings a directory there and back unchanged."""
    content = random.Random(2).randbytes(3_000_000)
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "there" / "deep" / "file name").write_bytes(content)
    ended = await lab.kubectl("exec", pod, "--", "sh", "-c", "cd; pwd")
    place = f"{ended.text.strip()}/copied"

    there = await lab.kubectl("cp", str(tmp_path / "there"), f"{pod}:{place}")
    back = await lab.kubectl("cp", f"{pod}:{place}", str(tmp_path / "back"))

    assert (there.code, back.code) == (0, 0), (there.stderr, back.stderr)
    assert (tmp_path / "back" / "deep" / "file name").read_bytes() == content


@PLACES
async def test_terminal_follows_the_window(lab: Lab, pod: str) -> None:
    """A program on a terminal sees its size, and the new one after a resize."""
    with terminal(rows=33, columns=101) as (master, slave):
        script = "stty size; while read line; do stty size; done"
        command = lab.kubectl_command("exec", "-it", pod, "--", "sh", "-c", script)
        process = await asyncio.create_subprocess_exec(
            *command, stdin=slave, stdout=slave, stderr=slave, env=lab.environment,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        shown = bytearray()
        await until(lambda: b"33 101" in read_more(master, shown))

        set_size(master, rows=44, columns=120)

        await until(lambda: b"44 120" in ask_again(master, shown))
        os.write(master, b"\x04")
        assert await process.wait() == 0


@PLACES
@pytest.mark.parametrize("options", [[], ["-i"], ["-it"]], ids=["bare", "stdin", "terminal"])
async def test_command_ends_with_its_client(
    lab: Lab, rig: Rig, pod: str, options: list[str]
) -> None:
    """A client that is killed takes its command with it, and what that has started."""
    number = f"98765{len(options[0] if options else '')}"
    argv = ["sh", "-c", f"sleep {number} & sleep {number}"]
    with terminal(rows=24, columns=80) as (_, slave):
        process = await lab.start_kubectl("exec", *options, pod, "--", *argv, stdin=slave)
        os.close(slave)
        await until(lambda: len(processes(rig, pod, f"sleep {number}")) == 2)

        process.kill()
        await process.wait()

        await until(lambda: not processes(rig, pod, f"sleep {number}"))


async def test_background_survives_a_command_that_ended(lab: Lab, rig: Rig) -> None:
    """What a command left running on purpose stays when the command ends by itself."""
    script = "sleep 87654 </dev/null >/dev/null 2>&1 & exit 0"

    ended = await lab.kubectl("exec", "far-app", "--", "sh", "-c", script)

    assert ended.code == 0
    assert len(processes(rig, "far-app", "sleep 87654")) == 1
    await lab.kubectl("exec", "far-app", "--", "pkill", "-f", "^sleep 87654")


@PLACES
async def test_kubernetes_client_runs_commands(lab: Lab, pod: str) -> None:
    """The Python client's stream talks with a program and sees its exit code."""

    def talk() -> tuple[str, int]:
        talking = stream(
            python_client(lab).connect_get_namespaced_pod_exec, pod, "default",
            command=["sh", "-c", "read line; echo got $line; exit 3"],
            stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
        )  # fmt: skip
        talking.write_stdin("hello\n")
        talking.run_forever(timeout=PATIENCE_S)
        printed, code = talking.read_stdout(), talking.returncode
        # Its own close leaves the socket to the garbage collector once the server has closed.
        talking.sock.shutdown()
        return printed, code

    assert await asyncio.to_thread(talk) == ("got hello\n", 3)


async def test_own_client_runs_commands(lab: Lab) -> None:
    """Our client feeds a service by name and gets back all of it, and the exit status."""
    printed = bytearray()

    async def take(data: bytes) -> None:
        printed.extend(data)

    async def typed() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000

    streams = Streams(stdout=take, stderr=take, stdin=typed())
    argv = ["sh", "-c", "wc -c; exit 9"]

    status = await execute(Server(url=lab.url), path("far"), argv, streams, container="db")

    assert (status, bytes(printed).strip()) == (9, b"3000000")


async def test_own_client_is_told_what_is_missing(lab: Lab) -> None:
    """A service that is not there, and a sandbox that is not, are two plain errors."""
    streams = Streams(stdout=drop, stderr=drop)

    with pytest.raises(NotFoundError, match="its services are db, app"):
        await execute(Server(url=lab.url), path("far"), ["true"], streams, container="web")
    with pytest.raises(NotFoundError, match="nobody"):
        await execute(Server(url=lab.url), path("nobody"), ["true"], streams)


@PLACES
async def test_logs_are_what_it_printed(lab: Lab, pod: str) -> None:
    """All lines, the last one only, and no more bytes than asked for."""
    whole = await lab.kubectl("logs", pod)
    last = await lab.kubectl("logs", pod, "--tail=1")
    cut = await lab.kubectl("logs", pod, "--limit-bytes=3")

    assert (whole.text, last.text, cut.text) == ("first\nsecond\n", "second\n", "fir")


@PLACES
async def test_followed_log_ends_with_its_reader(lab: Lab, rig: Rig, pod: str) -> None:
    """A follower gets lines at once, and when it is killed nothing goes on reading for it."""
    follower = "podman logs --follow" if pod.startswith("far") else "tail -n [+]1 -F log"
    process = await lab.start_kubectl("logs", "-f", pod)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == b"first\n"
    assert processes(rig, pod, follower)

    process.kill()
    await process.wait()

    await until(lambda: not processes(rig, pod, follower))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--previous", "is gone"),
        ("--since=5m", "use tailLines"),
        ("--since-time=2026-01-01T00:00:00Z", "use tailLines"),
    ],
)
async def test_what_logs_cannot_do_is_refused(lab: Lab, argument: str, message: str) -> None:
    """Other lines than were asked for are not given."""
    ended = await lab.kubectl("logs", "near", argument)

    assert ended.code == 1
    assert message in ended.stderr


async def test_timestamps_are_left_out_with_a_warning(lab: Lab) -> None:
    """The lines are right, so they are given."""
    ended = await lab.kubectl("logs", "near", "--timestamps")

    assert ended.text == "first\nsecond\n"
    assert "Warning: timestamps are not supported" in ended.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["attach", "near"], "attach is not supported"),
        (["port-forward", "near", ":80"], "use `sandboxer port-forward"),
        (["exec", "near", "-c", "web", "--", "true"], "container web is not"),
        (["delete", "pod", "near"], "Pods are read-only here; change the Sandbox"),
        (["exec", "near", "--", "no-such-program"], "no-such-program"),
    ],
)
async def test_refusals_say_what_to_do(lab: Lab, argv: list[str], message: str) -> None:
    """What cannot work says so in words that kubectl shows."""
    ended = await lab.kubectl(*argv)

    assert ended.code != 0
    assert message in ended.stderr


async def test_lost_link_ends_a_command_with_its_reason(lab: Lab, rig: Rig) -> None:
    """A host that is lost during a command is named, not taken for an exit code."""
    process = await lab.start_kubectl("exec", "far-app", "--", "sh", "-c", "echo on; sleep 76543")
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == b"on\n"

    rig.ssh(HOST, "pkill -KILL -f '^sshd: root'")

    async with asyncio.timeout(PATIENCE_S):
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert b"Host h1 did not answer while running 'podman'" in stderr


async def test_lost_server_is_not_an_exit_code(lab: Lab) -> None:
    """Our client says that it does not know how the command ended."""
    began = asyncio.Event()

    async def note(data: bytes) -> None:
        del data
        began.set()

    path_of_near, streams = path("near"), Streams(stdout=note, stderr=note)
    relay = await asyncio.start_server(lambda r, w: _relay(lab, r, w), "127.0.0.1", 0)
    server = Server(url=f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}")
    argv = ["sh", "-c", "echo on; sleep 65432"]
    running = asyncio.create_task(execute(server, path_of_near, argv, streams))
    await began.wait()

    for writer in _relayed:
        writer.transport.abort()

    with pytest.raises(UnreachableError, match="how it ended is not known"):
        await running
    relay.close()


_relayed: list[asyncio.StreamWriter] = []


async def _relay(lab: Lab, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes between a client and the lab's server."""
    host, port = lab.url.removeprefix("http://").split(":")
    server_reader, server_writer = await asyncio.open_connection(host, int(port))
    _relayed.extend((writer, server_writer))

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            return

    await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer))


def path(name: str) -> str:
    """Return the path of a sandbox."""
    return path_of(Sandbox, "default", name)


async def drop(data: bytes) -> None:
    """Take bytes and forget them."""
    del data


def python_client(lab: Lab) -> Any:
    """Return the Python client of Kubernetes."""
    configuration = kubernetes.client.Configuration(host=lab.url)
    return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration))


@contextmanager
def terminal(*, rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal; yields master and slave, of which the caller closes the slave."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    set_size(master, rows=rows, columns=columns)
    try:
        yield master, slave
    finally:
        os.close(master)


def set_size(master: int, *, rows: int, columns: int) -> None:
    """Change the size of a window; the kernel tells the programs in it."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_more(master: int, shown: bytearray) -> bytearray:
    """Add what the terminal shows by now."""
    with suppress(BlockingIOError):
        shown += os.read(master, 65536)
    return shown


def ask_again(master: int, shown: bytearray) -> bytearray:
    """Type a line, so that the size is printed again, and read."""
    os.write(master, b"\n")
    return read_more(master, shown)
