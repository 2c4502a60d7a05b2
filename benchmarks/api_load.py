"""
Clients of `benchmarks/api.py`: many requests over kept connections, and many watches.

Plain asyncio protocols, because the client shares the machine with the server it measures. What
a request costs the server is read from /proc/PID/stat (proc(5)), which other people's load on the
machine moves less than the rate.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
_REVISION = re.compile(rb'"resourceVersion": ?"(\d+)"')

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

CONNECTED_AT_ONCE = 50
"""Connections made together; the server's backlog is 128."""


class Place(NamedTuple):
    """Where a server listens: a Unix socket, or a port with TLS and a token."""

    socket: Path | None
    port: int = 0
    context: ssl.SSLContext | None = None
    token: str = ""

    def request(self, method: str, path: str, body: bytes = b"", type_: str = "") -> bytes:
        """Return a request as it is sent."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Accept: application/json"]
        lines += [f"Authorization: Bearer {self.token}"] if self.token else []
        lines += [f"Content-Type: {type_ or 'application/json'}"] if body else []
        lines += [f"Content-Length: {len(body)}"] if body or method != "GET" else []
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.BaseTransport:
        """Open one connection."""
        loop = asyncio.get_running_loop()
        if self.socket is not None:
            transport, _ = await loop.create_unix_connection(protocol, str(self.socket))
        else:
            transport, _ = await loop.create_connection(
                protocol, "127.0.0.1", self.port, ssl=self.context, server_hostname="localhost"
            )
        return transport


@dataclass
class Round:
    """What one round of requests took."""

    count: int
    elapsed_s: float
    cpu_s: float
    """Of the server."""
    latencies_s: list[float] = field(repr=False)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.count / self.elapsed_s

    @property
    def cpu_us(self) -> float:
        """The server's processor time for each."""
        return self.cpu_s / self.count * 1e6

    @property
    def p99_ms(self) -> float:
        """Of the time to the whole answer."""
        return percentile(self.latencies_s, 99) * 1e3


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def cpu_s(pid: int) -> float:
    """Return the processor seconds a process has used: utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:13]) / TICKS_PER_S


def rss_kib(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


class _Load:
    """Requests that are left, and what they took so far."""

    def __init__(self, request: Callable[[int], bytes], count: int, in_flight: int) -> None:
        self.request = request
        self.left = iter(range(count))
        self.latencies_s: list[float] = []
        self._running = in_flight
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self) -> None:
        self._running -= 1
        if not self._running and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Asker(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._head = b""
        self._missing = 0
        self._begun = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def ask(self) -> None:
        assert self._transport is not None
        number = next(self._load.left, None)
        if number is None:
            self._load.ended()
            return
        self._begun = time.perf_counter()
        self._transport.write(self._load.request(number))

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._missing = self._expected(head, body)
            data, self._head = body, b""
        self._missing -= len(data)
        if not self._missing:
            self._load.latencies_s.append(time.perf_counter() - self._begun)
            self.ask()

    def _expected(self, head: bytes, body: bytes) -> int:
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 20") or length is None or not int(length[1]):
            self._load.fail(RuntimeError(f"unexpected answer: {head!r} {body[:500]!r}"))
            return 1 << 62
        return int(length[1])

    def connection_lost(self, error: Exception | None) -> None:
        self._load.fail(error or ConnectionError("the server hung up"))


async def ask(
    place: Place, pid: int, request: Callable[[int], bytes], *, count: int, in_flight: int
) -> Round:
    """Send *count* requests, *in_flight* at a time, and return what they took."""
    load = _Load(request, count, in_flight)
    askers: list[_Asker] = []

    def asker() -> _Asker:
        askers.append(_Asker(load))
        return askers[-1]

    transports = [await place.connect(asker) for _ in range(in_flight)]
    before_s, begun = cpu_s(pid), time.perf_counter()
    for each in askers:
        each.ask()
    await load.done
    elapsed_s, used_s = time.perf_counter() - begun, cpu_s(pid) - before_s
    for transport in transports:
        transport.close()
    return Round(count, elapsed_s, used_s, load.latencies_s)


class Watchers:
    """
    Many watches of one list, counted together.

    Args:
        place: Of the server.
        path: What is watched, with its query.
    """

    def __init__(self, place: Place, path: str) -> None:
        self._place = place
        self._request = place.request("GET", path)
        self._transports: list[asyncio.BaseTransport] = []
        self.delivered = 0
        self.last_at = 0.0
        self.arrivals: list[tuple[int, float]] | None = None
        """Revision and time of each event, while it is a list."""

    async def connect(self, count: int) -> None:
        """Open that many watches and wait until their answers have begun."""
        while count:
            group = min(count, CONNECTED_AT_ONCE)
            begun = [_Watcher(self, self._request) for _ in range(group)]
            self._transports += [await self._place.connect(lambda w=w: w) for w in begun]  # type: ignore[misc]  # mypy does not infer such a lambda
            async with asyncio.timeout(60):
                await asyncio.gather(*(watcher.answered.wait() for watcher in begun))
            count -= group

    def __len__(self) -> int:
        """Return how many were opened."""
        return len(self._transports)

    async def until(self, delivered: int, *, within_s: float = 120) -> None:
        """Return when so many events have come."""
        async with asyncio.timeout(within_s):
            while self.delivered < delivered:  # noqa: ASYNC110 - an event would cost each delivery
                await asyncio.sleep(0.005)

    def stall(self) -> None:
        """Read nothing more."""
        for transport in self._transports:
            assert isinstance(transport, asyncio.ReadTransport)
            transport.pause_reading()

    def close(self) -> None:
        """Hang up."""
        for transport in self._transports:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.abort()

    def count(self, data: bytes, before: bytes) -> None:
        """Count the events that end in *data*; *before* is the byte that came before it."""
        now = time.monotonic()
        # A document has no line breaks, so a brace before one is the end of an event.
        events = data.count(b"}\n") + (before == b"}" and data.startswith(b"\n"))
        self.delivered += events
        self.last_at = now if events else self.last_at
        if self.arrivals is not None:
            self.arrivals += [(int(found), now) for found in _REVISION.findall(data)]


class _Watcher(asyncio.Protocol):
    def __init__(self, watchers: Watchers, request: bytes) -> None:
        self._watchers = watchers
        self._request = request
        self._before = b""
        self.answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.answered.is_set():
            assert data.startswith(b"HTTP/1.1 200"), data[:500]
            self.answered.set()
        self._watchers.count(data, self._before)
        self._before = data[-1:]
