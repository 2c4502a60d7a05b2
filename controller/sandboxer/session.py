"""
A machine as an extension sees it: run a command, connect its streams, send files, ask its engine.

These are the types of the `session` argument in `sandboxer.extension`; `sandboxer.transport`
implements them over SSH and locally. An extension never opens a connection of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sandboxer.kinds.host import HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A finished command. An exit status that was lost raises `UnreachableError` instead."""

    exit_status: int
    """0 to 255, or minus the signal number."""
    stdout: bytes
    stderr: bytes

    def error_text(self, limit: int = 500) -> str:
        """Return the last characters of stderr (else stdout) as printable text for a message."""
        text = (self.stderr.strip() or self.stdout.strip()).decode("utf-8", "replace")
        printable = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
        return printable[-limit:]


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalSize:
    """Columns and rows of a terminal."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Where a command's input comes from and its output goes; all bytes, as they come."""

    stdout: Callable[[bytes], Awaitable[None]]
    stderr: Callable[[bytes], Awaitable[None]]
    stdin: AsyncIterator[bytes] | None = None
    """None means an empty input."""
    terminal: TerminalSize | None = None
    """Given when a terminal is wanted; stderr then arrives on stdout."""
    resizes: AsyncIterator[TerminalSize] | None = None


class Connection(Protocol):
    """
    A byte stream to a port; either direction may end before the other.

    Every method raises `UnreachableError` when the machine between us and the port is lost.
    """

    async def read(self, limit: int = 64 * 1024) -> bytes:
        """Return up to *limit* bytes as they come; empty means that the other side has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Send *data*; waits while the other side does not take it, ignored once it has gone."""
        ...

    def write_eof(self) -> None:
        """End what we send; what the other side sends still comes."""
        ...

    def close(self) -> None:
        """End both directions; may be called again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """How a directory is copied, where that is not simply all of it."""

    filters: tuple[str, ...] = ()
    """rsync's filter rules; what they leave out is neither copied nor removed."""
    resumable: bool = False
    """Keep the half of a file that had arrived when the link broke, in `.sandboxer-partial`."""
    progress: Callable[[str], None] | None = None
    """Called several times a second with how far it is, as `45 %, 12,345,678 bytes, 9.87MB/s`."""


EVERYTHING = Copying()
"""All of the directory, in one go, without a word."""


class Engine(Protocol):
    """The REST API of a host's container engine, over the kept connection to that host."""

    async def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Any:
        """
        Return the decoded JSON answer of `GET path` (without version prefix: `/containers/json`).

        Raises:
            UnreachableError: The socket or the host does not answer.
            TransientError: The engine answered with an error.
        """
        ...

    def events(self, *, query: Mapping[str, str] | None = None) -> AsyncIterator[Any]:
        """Yield decoded objects of the `/events` stream until it breaks; then UnreachableError."""
        ...


class Session(Protocol):
    """
    One machine, reached: over SSH or locally, with the same methods.

    At most 8 commands run at once on one machine; further ones wait. Every method raises
    `UnreachableError` when the machine does not answer or the link is lost half-way.
    """

    @property
    def host(self) -> str:
        """Name of the Host object."""
        ...

    @property
    def target(self) -> str:
        """`user@address:port`, empty for the local machine."""
        ...

    @property
    def facts(self) -> HostFacts:
        """What the probe found; `facts.work_root` exists and is writable only by us."""
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        max_output_bytes: int = 16 * 2**20,
    ) -> Completed:
        """
        Run one command and return when it has ended.

        Args:
            argv: Program and arguments; quoted for the remote shell by the transport.
            stdin: Given to the command as it is; the place for secrets.
            timeout_s: Seconds; then `UnreachableError`, and the command may still run.
            max_output_bytes: Of stdout and stderr each; more is a `TransientError`.
        """
        ...

    async def script(
        self,
        text: str,
        *arguments: str,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
    ) -> Completed:
        """Run POSIX `sh` *text* with `$1`… set to *arguments*; one round trip."""
        ...

    async def stream(self, argv: Sequence[str], streams: Streams) -> int:
        """Run one command with its streams connected; return its exit status."""
        ...

    async def connect(self, address: str, port: int, *, timeout_s: float = 10.0) -> Connection:
        """
        Connect to a TCP port as a program on the machine would.

        Args:
            address: IP address as the machine sees it; its own is `127.0.0.1`.
            port: 1 to 65535.
            timeout_s: Seconds; then `TransientError`.

        Raises:
            TransientError: Nothing answers there (reason `ConnectionRefused`).
            TerminalError: The machine's SSH server forbids it (reason `ForwardingForbidden`).
        """
        ...

    async def upload(
        self,
        source: str,
        destination: str,
        *,
        copying: Copying = EVERYTHING,
        timeout_s: float = 600.0,
    ) -> None:
        """
        Make directory *destination* on the machine a copy of local directory *source* (rsync).

        Files that are gone from *source* are removed. Symlinks are copied as links and never
        followed; nothing outside *destination* is written.

        Raises:
            InvalidSpecError: *source* is not a directory.
            TerminalError: rsync is missing on either side.
        """
        ...

    def engine(self) -> Engine | None:
        """Return the container engine's REST API, or None when it has to be asked by command."""
        ...
