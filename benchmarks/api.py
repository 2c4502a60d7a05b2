"""
The HTTP API against what the machine allows and against the obvious way, all in one run.

    reading   GET of one object, LIST of 1,000, LIST of 10,000 in pages of 500
    watching  100 changes to 500 watches as fast as they come, then 20 changes a second
    writing   POST, merge patch, server-side apply, DELETE, and POST as a dry run
    memory    of a served object, at 10,000
    apply     `sandboxer apply -f` of 1,000 manifests, whole processes

Each server is a process of its own (`benchmarks/api_servers.py`), asked over its Unix socket and
over TLS; only ours asks for a token. The arms take turns, and the medians of all rounds are
printed. The rate of a limit that outruns the client is the client's; `cpu` is the server's own
processor time for each request, which other work on the machine moves little.

    pip install --group bench
    python -m benchmarks.api [--rounds 3] [reading watching writing memory apply]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import api_load
from benchmarks.api_load import Place, Round, Watchers
from benchmarks.api_servers import LIST, fill, manifest

MANY = 1_000  # objects of the LIST that goal G15 names
LARGE = 10_000  # objects of the paged list, and of the memory
PAGE = 500  # kubectl's page
WATCHES = 500  # goal G16
BURST = 100  # changes
PACED = 60  # changes, 20 a second
PACE_S = 0.05
START_S = 60.0  # seconds a server may take to start on a busy machine
STALLED = 20  # watches that read nothing
STALLED_CHANGES = 1_500
READING = 50  # watches beside them

Request = Callable[[int], bytes]
"""Takes the number of a request."""


class Server(NamedTuple):
    """One arm that serves."""

    arm: str
    pid: int
    control: int
    places: dict[str, Place]

    async def tell(self, path: str) -> dict[str, Any]:
        """Ask what only the benchmark asks."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.control)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        told: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return told


@contextmanager
def served(arm: str, root: Path, store: Path) -> Iterator[Server]:
    """Run one arm over a store."""
    # Short, because a Unix socket's path is.
    command = [sys.executable, "-m", "benchmarks.api_servers", arm, str(root / arm), str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        context = ssl.create_default_context(cadata=told["ca"])
        places = {
            "unix": Place(Path(told["socket"])),
            "tls": Place(None, told["port"], context, told["token"]),
        }
        _until_listening(told["socket"])
        yield Server(arm, process.pid, told["control"], places)
    finally:
        process.kill()
        process.wait()


def _until_listening(path: str) -> None:
    """Wait for a Unix socket that takes connections; the others listen before it does."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as tried:
                tried.connect(path)
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Figures:
    """What every arm reached, by measurement and place."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[str, str], dict[str, list[Round]]] = {}

    def add(self, what: str, server: Server, place: str, measured: Round) -> None:
        """Take a round of one arm."""
        arms = self._rounds.setdefault((what, place), {})
        arms.setdefault(server.arm, []).append(measured)

    def show(self) -> None:
        """Print medians, and ours against each other arm."""
        for (what, place), arms in self._rounds.items():
            print(f"\n{what}, {place}")
            for arm, rounds in arms.items():
                print(
                    f"  {arm:12} {_median(rounds, 'rate'):10,.0f} /s   p50 {_p50_ms(rounds):8.2f} ms"
                    f"   p99 {_median(rounds, 'p99_ms'):8.2f} ms   cpu {_median(rounds, 'cpu_us'):9,.1f} us"
                )
            for other in (arm for arm in arms if arm != "ours" and "ours" in arms):
                rate = _ratio(arms["ours"], arms[other], "rate")
                cpu = _ratio(arms[other], arms["ours"], "cpu_us")
                print(f"  ours / {other:12} {rate:6.2f} by rate, {cpu:6.2f} by processor time")


def _median(rounds: Sequence[Round], figure: str) -> float:
    return float(statistics.median(getattr(one, figure) for one in rounds))


def _p50_ms(rounds: Sequence[Round]) -> float:
    return statistics.median(statistics.median(one.latencies_s) for one in rounds) * 1e3


def _ratio(above: Sequence[Round], below: Sequence[Round], figure: str) -> float:
    """Return the median of the ratios within each round: both arms had the same minute."""
    pairs = zip(above, below, strict=True)
    return float(
        statistics.median(
            getattr(one, figure) / max(getattr(other, figure), 1e-9) for one, other in pairs
        )
    )


async def measure_reading(root: Path, rounds: int) -> None:
    """GET and LIST."""
    figures = Figures()
    await fill(root / "many", MANY)
    await fill(root / "large", LARGE)
    one = f"{LIST}/sandbox-7"
    counts = {"ours": (3_000, 100), "limit": (5_000, 200), "naive": (2_000, 20)}
    with servers(root, "many", counts) as arms:
        for server, place, at in turns(arms, rounds):
            gets, lists = counts[server.arm]
            for what, path, count, in_flight in (
                ("GET, 32 in flight", one, gets, 32),
                ("LIST of 1,000, 4 in flight", LIST, lists, 4),
            ):
                measured = await api_load.ask(
                    at, server.pid, _same(at, path), count=count, in_flight=in_flight
                )
                figures.add(what, server, place, measured)
    with servers(root, "large", ["ours", "limit"]) as arms:
        for server, place, at in turns(arms, rounds):
            # The limit has no pages: a twentieth of it is one.
            what = "LIST of 10,000" + (", a page of 500" if server.arm == "ours" else ", whole")
            path = f"{LIST}?limit={PAGE}" if server.arm == "ours" else LIST
            measured = await api_load.ask(at, server.pid, _same(at, path), count=60, in_flight=4)
            figures.add(what, server, place, measured)
    figures.show()


def _same(place: Place, path: str) -> Request:
    """Return the same GET for every number."""
    asked = place.request("GET", path)
    return lambda _: asked


@contextmanager
def servers(
    root: Path, filled: str, arms: Sequence[str] | dict[str, Any]
) -> Iterator[list[Server]]:
    """Run several arms over the store in *filled*."""
    with ExitStack() as stack:
        base = root / f"{filled[0]}s"
        store = root / filled / "store.db"
        yield [stack.enter_context(served(arm, base, store)) for arm in arms]


def turns(arms: Sequence[Server], rounds: int) -> Iterator[tuple[Server, str, Place]]:
    """Yield every arm at every place, round after round."""
    for _ in range(rounds):
        for place in ("unix", "tls"):
            for server in arms:
                yield server, place, server.places[place]


async def measure_watching(root: Path, rounds: int) -> None:
    """Deliver changes to many."""
    await fill(root / "watched", MANY)
    figures: dict[tuple[str, str], list[dict[str, float]]] = {}
    with servers(root, "watched", ["ours", "limit-watch", "naive"]) as arms:
        for server, place, at in turns(arms, rounds):
            found = await _fan_out(server, at)
            figures.setdefault((place, server.arm), []).append(found)
            print(f"  {place}, {server.arm}: {found}", file=sys.stderr, flush=True)
        ours = arms[0]
        stalled = {place: await _stall(ours, at) for place, at in ours.places.items()}
    for place in ("unix", "tls"):
        print(f"\nwatching, {WATCHES} watches, {place}")
        medians = {arm: _medians(found) for (at, arm), found in figures.items() if at == place}
        for arm, found in medians.items():
            print(
                f"  {arm:12} " + "   ".join(f"{name} {value:,.1f}" for name, value in found.items())
            )
        for other in ("limit-watch", "naive"):
            rate = medians["ours"]["deliveries/s"] / medians[other]["deliveries/s"]
            cpu = medians[other]["cpu us"] / medians["ours"]["cpu us"]
            print(f"  ours / {other:12} {rate:6.2f} by rate, {cpu:6.2f} by processor time")
        print(f"  {STALLED} stalled watches during {STALLED_CHANGES:,} changes: {stalled[place]}")


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


async def _fan_out(server: Server, place: Place) -> dict[str, float]:
    """Return what one arm reached with all watches."""
    before_kib = api_load.rss_kib(server.pid)
    watchers = await _watching(server, place, WATCHES)
    each_kib = (api_load.rss_kib(server.pid) - before_kib) / WATCHES
    begun, cpu_s = watchers.delivered, api_load.cpu_s(server.pid)
    published = (await server.tell(f"/publish?count={BURST}"))["published"]
    await watchers.until(begun + WATCHES * BURST)
    burst_s = watchers.last_at - published[0][1]
    used_s = api_load.cpu_s(server.pid) - cpu_s
    waits_ms = await _paced(server, watchers)
    watchers.close()
    await asyncio.sleep(0.5)
    return {
        "deliveries/s": WATCHES * BURST / burst_s,
        "cpu us": used_s / (WATCHES * BURST) * 1e6,
        "p50 ms": api_load.percentile(waits_ms, 50),
        "p99 ms": api_load.percentile(waits_ms, 99),
        "KiB each": each_kib,
    }


async def _watching(server: Server, place: Place, count: int) -> Watchers:
    revision = (await server.tell("/revision"))["revision"]
    watchers = Watchers(place, f"{LIST}?watch=true&resourceVersion={revision}")
    await watchers.connect(count)
    # Not every arm sends a byte before its first event, and all must be there for it.
    await asyncio.sleep(0.5)
    return watchers


async def _paced(server: Server, watchers: Watchers) -> list[float]:
    """Make changes at an easy pace; return the milliseconds from asking for each to its arrivals."""
    arrivals = watchers.arrivals = []
    wanted = watchers.delivered + PACED * len(watchers)
    published = (await server.tell(f"/publish?count={PACED}&gap_s={PACE_S}"))["published"]
    await watchers.until(wanted)
    watchers.arrivals = None
    at = dict(published)
    return [(arrived - at[revision]) * 1e3 for revision, arrived in arrivals if revision in at]


async def _stall(server: Server, place: Place) -> str:
    """Let some watches stand still; say what that costs the server, and the others."""
    others = await _watching(server, place, READING)
    stalled = await _watching(server, place, STALLED)
    stalled.stall()
    before_kib = api_load.rss_kib(server.pid)
    begun = others.delivered
    await server.tell(f"/publish?count={STALLED_CHANGES}")
    await others.until(begun + READING * STALLED_CHANGES)
    grown_kib = api_load.rss_kib(server.pid) - before_kib
    waits_ms = await _paced(server, others)
    stalled.close()
    others.close()
    await asyncio.sleep(0.5)
    p99 = api_load.percentile(waits_ms, 99)
    return f"{grown_kib / STALLED:,.0f} KiB each at most, p99 of the others {p99:.1f} ms"


async def measure_writing(root: Path, rounds: int) -> None:
    """POST, PATCH and DELETE, one and fifty at a time."""
    figures = Figures()
    await fill(root / "written", MANY)
    with servers(root, "written", ["ours", "limit", "naive"]) as arms:
        for number, (server, place, at) in enumerate(turns(arms, rounds)):
            for in_flight, count in ((1, 100), (50, 500)):
                for what, request in _writes(at, f"w{number}-{in_flight}"):
                    if server.arm != "ours" and what.startswith("dry run"):
                        continue
                    measured = await api_load.ask(
                        at, server.pid, request, count=count, in_flight=in_flight
                    )
                    figures.add(f"{what}, {in_flight} in flight", server, place, measured)
    figures.show()


def _writes(place: Place, prefix: str) -> Iterator[tuple[str, Request]]:
    """Yield the writes in an order in which each finds what it needs."""

    def path(number: int) -> str:
        return f"{LIST}/{prefix}-{number}"

    def body(number: int) -> bytes:
        return json.dumps(manifest(f"{prefix}-{number}", number)).encode()

    merge, apply_ = "application/merge-patch+json", "application/apply-patch+yaml"
    changed = b'{"spec": {"env": {"CHANGED": "yes"}}}'
    yield "dry run of POST", lambda n: place.request("POST", f"{LIST}?dryRun=All", body(n))
    yield "POST", lambda n: place.request("POST", LIST, body(n))
    yield "merge patch", lambda n: place.request("PATCH", path(n), changed, merge)
    yield (
        "server-side apply",
        lambda n: place.request(
            "PATCH", f"{path(n)}?fieldManager=bench&force=true", body(n), apply_
        ),
    )
    yield "DELETE", lambda n: place.request("DELETE", path(n))


async def measure_memory(root: Path, rounds: int) -> None:
    """Resident memory of an object that is served."""
    del rounds
    for count in (MANY, LARGE):
        await fill(root / f"held{count}", count)
    print(f"\nmemory of an object, {LARGE:,} served")
    each = {}
    for arm in ("ours", "naive"):
        found = []
        for count in (MANY, LARGE):
            store = root / f"held{count}" / "store.db"
            with served(arm, root / f"h{count}", store) as server:
                found.append(api_load.rss_kib(server.pid))
        each[arm] = (found[1] - found[0]) / (LARGE - MANY)
        print(f"  {arm:12} {each[arm]:6.2f} KiB")
    print(f"  naive / ours {each['naive'] / each['ours']:6.1f}")


async def measure_apply(root: Path, rounds: int) -> None:
    """`sandboxer apply -f` of 1,000 manifests."""
    await fill(root / "applied", 0)
    took: dict[str, list[float]] = {}
    with servers(root, "applied", ["ours"]) as (server,):
        for number in range(rounds):
            for arm in ("ours, unix", "ours, tls", "limit", "naive"):
                file = root / "manifests.yaml"
                prefix = f"m{number}-{'u' if arm.endswith('unix') else 't'}"
                _write_manifests(file, prefix)
                took.setdefault(arm, []).append(_run_apply(server, arm, file, root, number))
    print(f"\napply -f of {MANY:,} manifests, whole processes")
    for arm, seconds in took.items():
        print(f"  {arm:12} {statistics.median(seconds) * 1e3:8,.0f} ms")
    for arm in ("ours, unix", "ours, tls"):
        for other in ("limit", "naive"):
            ratios = [o / x for o, x in zip(took[arm], took[other], strict=True)]
            print(f"  {arm} / {other:8} {statistics.median(ratios):6.2f} times as long")


def _write_manifests(file: Path, prefix: str) -> None:
    import yaml

    documents = [manifest(f"{prefix}-{number}", number) for number in range(MANY)]
    file.write_text(yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False))


def _run_apply(server: Server, arm: str, file: Path, root: Path, number: int) -> float:
    environment = dict(os.environ)
    command = [sys.executable, "-m"]
    if arm.startswith("ours"):
        place = server.places[arm.rpartition(" ")[2]]
        (ca := root / "ca.pem").write_text(_authority(root))
        environment |= {
            "SANDBOXER_SERVER": f"unix://{place.socket}"
            if place.socket
            else f"https://localhost:{place.port}",
            "SANDBOXER_TOKEN": place.token,
            "SANDBOXER_CA_FILE": str(ca),
        }
        command += ["sandboxer", "apply", "-f", str(file)]
    else:
        database = root / f"{arm}-{number}.db"
        command += ["benchmarks.api_servers", f"apply-{arm}", str(file), str(database)]
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _authority(root: Path) -> str:
    from sandboxer.api.kubeconfig import read_access

    (kubeconfig,) = root.glob("as/ours/kubeconfig*")
    access = read_access(kubeconfig)
    assert access is not None
    return access.ca_pem.decode()


MEASUREMENTS = {
    "reading": measure_reading,
    "watching": measure_watching,
    "writing": measure_writing,
    "memory": measure_memory,
    "apply": measure_apply,
}


async def measure(names: Sequence[str], rounds: int) -> None:
    for name in names:
        with tempfile.TemporaryDirectory(prefix="sbx") as directory:
            await MEASUREMENTS[name](Path(directory), rounds)
        print(f"(load of the machine afterwards: {os.getloadavg()[0]:.1f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the API reaches.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", choices=[*MEASUREMENTS, []], metavar="MEASUREMENT")
    options = parser.parse_args()
    asyncio.run(measure(options.names or list(MEASUREMENTS), options.rounds))


if __name__ == "__main__":
    main()
