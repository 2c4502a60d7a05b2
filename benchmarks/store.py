"""
The store against what it could at best and at worst be, all arms in one interleaved run.

    writes   durable status writes a second, 50 in flight
             ours · limit: raw sqlite3 with group commit, nothing judged, encoded or decoded
             naive: one SQLModel session (get, set, commit) per write, on the loop or in threads
    memory   RSS for each of 100,000 objects, and a full garbage collection over them
             ours: an opened store · naive: a dictionary of pydantic models

Run `python benchmarks/store.py`; only the ratios are meant to travel to another machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import queue
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlmodel import Session, create_engine

from sandboxer.clock import SystemClock
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import ResourceSeen, Sandbox, SandboxSpec, SandboxStatus
from sandboxer.store import Create, Store
from sandboxer.store.database import Database
from sandboxer.store.tables import ObjectRow

IN_FLIGHT = 50  # the concurrency goal G13 names
WRITES = 5_000  # one round of the fast arms, about a second
NAIVE_WRITES = 500  # one round of the slow arms, about a second
ROUNDS = 5  # the median of which is reported
OBJECTS = 100_000  # the number goal G12 names

Round = tuple[float, list[float]]
"""Seconds for all writes of a round, and for each."""
Arm = Callable[[Path, int], Coroutine[Any, Any, Round]]


def sandbox(number: int) -> Sandbox:
    """Return a Sandbox of about 2.2 KB when encoded, as the measurements of the goals used."""
    return Sandbox(
        metadata=ObjectMeta(
            name=f"sandbox-{number}", labels={"team": f"t{number % 20}", "app": "bench"}
        ),
        spec=SandboxSpec(env={f"VARIABLE_{i}": f"value-{number}-{i}" for i in range(12)}),
        status=status(number, 0),
    )


def status(number: int, repairs: int) -> SandboxStatus:
    seen = tuple(
        ResourceSeen(
            kind="container", name=f"sbx-{number}-{i}", state="running", health="healthy",
            detail="started by the engine",
        )
        for i in range(5)
    )  # fmt: skip
    return SandboxStatus(
        phase="Ready", extension="ext.compose-ssh", host="host-1", resources=seen, repairs=repairs,
        placement_reason="host-1 has the fewest sandboxes of three that fit",
    )  # fmt: skip


async def ours(directory: Path, writes: int) -> Round:
    """Write status through the store."""
    store = await Store.open(directory / f"ours-{time.monotonic_ns()}.db", clock=SystemClock())
    latencies: list[float] = []

    async def work(obj: Sandbox, number: int) -> None:
        statuses = [status(number, repairs) for repairs in range(1, 3)]
        for repairs in range(writes // IN_FLIGHT):
            wanted = obj.model_copy(update={"status": statuses[repairs % 2]})
            begun = time.perf_counter()
            obj = await store.update_status(wanted)
            latencies.append(time.perf_counter() - begun)

    created = await asyncio.gather(*(store.create(sandbox(n)) for n in range(IN_FLIGHT)))
    elapsed_s = await _timed(*(work(obj, number) for number, obj in enumerate(created)))
    await store.close()
    return elapsed_s, latencies


async def limit(directory: Path, writes: int) -> Round:
    """Write prepared bytes with raw sqlite3 and group commit: what the machine can do."""
    path = directory / f"limit-{time.monotonic_ns()}.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "CREATE TABLE o(name TEXT PRIMARY KEY, rv INTEGER, body BLOB) WITHOUT ROWID;"
    )
    loop = asyncio.get_running_loop()
    jobs: queue.SimpleQueue[tuple[int, int, asyncio.Future[None]] | None] = queue.SimpleQueue()
    bodies = [sandbox(number).model_dump_json().encode() for number in range(IN_FLIGHT)]

    def answer(batch: list[tuple[int, int, asyncio.Future[None]]]) -> None:
        for _, _, future in batch:
            future.set_result(None)

    def write() -> None:
        while (first := jobs.get()) is not None:
            batch = [first]
            while not jobs.empty() and (job := jobs.get()) is not None:
                batch.append(job)
            connection.execute("BEGIN IMMEDIATE")
            for number, rv, _ in batch:
                connection.execute(
                    "INSERT OR REPLACE INTO o VALUES (?, ?, ?)", (f"s{number}", rv, bodies[number])
                )
            connection.execute("COMMIT")
            loop.call_soon_threadsafe(answer, batch)

    thread = threading.Thread(target=write)
    thread.start()
    latencies: list[float] = []

    async def work(number: int) -> None:
        for rv in range(writes // IN_FLIGHT):
            future: asyncio.Future[None] = loop.create_future()
            begun = time.perf_counter()
            jobs.put((number, rv, future))
            await future
            latencies.append(time.perf_counter() - begun)

    elapsed_s = await _timed(*(work(number) for number in range(IN_FLIGHT)))
    jobs.put(None)
    await asyncio.to_thread(thread.join)
    connection.close()
    return elapsed_s, latencies


async def naive(directory: Path, writes: int) -> Round:
    """Write each status by a SQLModel session of its own, on the event loop."""
    latencies: list[float] = []
    save = _session_writer(directory)
    for count in range(writes):
        begun = time.perf_counter()
        save(count % IN_FLIGHT, count)
        latencies.append(time.perf_counter() - begun)
    return sum(latencies), latencies


async def naive_threads(directory: Path, writes: int) -> Round:
    """Do the same without blocking the loop: a thread hop for each write."""
    latencies: list[float] = []
    save = _session_writer(directory)
    one_at_a_time = asyncio.Lock()

    async def work(number: int) -> None:
        for repairs in range(writes // IN_FLIGHT):
            begun = time.perf_counter()
            async with one_at_a_time:
                await asyncio.to_thread(save, number, repairs + 1)
            latencies.append(time.perf_counter() - begun)

    elapsed_s = await _timed(*(work(number) for number in range(IN_FLIGHT)))
    return elapsed_s, latencies


async def _timed(*work: Coroutine[Any, Any, None]) -> float:
    """Run everything at once and return how many seconds it took."""
    begun = time.perf_counter()
    await asyncio.gather(*work)
    return time.perf_counter() - begun


def _session_writer(directory: Path) -> Callable[[int, int], None]:
    """Return a function that writes a status durably through the ORM."""
    path = directory / f"naive-{time.monotonic_ns()}.db"
    Database(path).close()
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @sqlalchemy.event.listens_for(engine, "connect")
    def _full(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = FULL")

    with Session(engine) as session:
        for number in range(IN_FLIGHT):
            session.add(_row(number))
        session.commit()

    def save(number: int, repairs: int) -> None:
        with Session(engine) as session:
            row = session.get(ObjectRow, ("Sandbox", "default", f"sandbox-{number}"))
            assert row is not None
            obj = Sandbox.model_validate_json(row.body)
            wanted = obj.model_copy(update={"status": status(number, repairs)})
            row.body = wanted.model_dump_json(by_alias=True, exclude_none=True).encode()
            row.revision += 1
            session.add(row)
            session.commit()

    return save


def _row(number: int) -> ObjectRow:
    body = sandbox(number).model_dump_json(by_alias=True, exclude_none=True).encode()
    return ObjectRow(
        kind="Sandbox", namespace="default", name=f"sandbox-{number}", uid=str(number),
        revision=0, generation=1, deleting=False, labels="{}", body=body,
    )  # fmt: skip


def measure_writes(directory: Path) -> None:
    """Run the arms in turns and print rates, ratios and our latency."""
    arms: dict[str, tuple[Arm, int]] = {
        "ours": (ours, WRITES),
        "limit": (limit, WRITES),
        "naive": (naive, NAIVE_WRITES),
        "naive in threads": (naive_threads, NAIVE_WRITES),
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    p99_s: list[float] = []
    for _ in range(ROUNDS):
        for name, (arm, writes) in arms.items():
            elapsed_s, latencies = asyncio.run(arm(directory, writes))
            rates[name].append(writes / elapsed_s)
            if name == "ours":
                p99_s.append(statistics.quantiles(latencies, n=100)[98])
    rate = {name: statistics.median(values) for name, values in rates.items()}
    print(f"durable status writes, {IN_FLIGHT} in flight (median of {ROUNDS} rounds)")
    for name, value in rate.items():
        print(f"  {name:18} {value:9,.0f} /s")
    print(f"  ours / limit             {rate['ours'] / rate['limit']:6.2f}")
    print(f"  ours / naive             {rate['ours'] / rate['naive']:6.1f}")
    print(f"  ours / naive in threads  {rate['ours'] / rate['naive in threads']:6.1f}")
    print(f"  ours p99                 {statistics.median(p99_s) * 1e3:6.1f} ms")


def measure_memory(directory: Path) -> None:
    """Fill a store, then measure each arm in a process of its own."""
    path = directory / "memory.db"
    asyncio.run(_fill(path))
    found = {}
    for arm in ("store", "models"):
        done = subprocess.run(
            [sys.executable, __file__, arm, str(path)], capture_output=True, text=True, check=True
        )
        found[arm] = json.loads(done.stdout)
    print(f"\nmemory, {OBJECTS:,} sandboxes")
    for arm, name in (("store", "ours"), ("models", "pydantic models")):
        values = found[arm]
        print(
            f"  {name:18} {values['kib']:6.2f} KiB each, full collection {values['gc_ms']:7.1f} ms, "
            f"loaded in {values['load_s']:.2f} s"
        )
    print(f"  models / ours            {found['models']['kib'] / found['store']['kib']:6.1f}")


async def _fill(path: Path) -> None:
    store = await Store.open(path, clock=SystemClock())
    for start in range(0, OBJECTS, 1_000):
        created = await store.write([Create(sandbox(n)) for n in range(start, start + 1_000)])
        assert all(isinstance(obj, Sandbox) for obj in created)
    # The status is written apart, as everywhere.
    for start in range(0, OBJECTS, 1_000):
        await asyncio.gather(*(
            store.update_status(obj.model_copy(update={"status": status(start + n, 0)}))
            for n, obj in enumerate(_slice(store, start))
        ))  # fmt: skip
    await store.compact()
    await store.close()


def _slice(store: Store, start: int) -> Iterator[Sandbox]:
    for number in range(start, start + 1_000):
        obj = store.get(Sandbox, f"sandbox-{number}")
        assert obj is not None
        yield obj


def memory_arm(arm: str, path: Path) -> None:
    """Load the objects in one form and print what that cost, as JSON."""
    gc.collect()
    before = _rss_bytes()
    begun = time.perf_counter()
    keep: Any
    if arm == "store":
        keep = asyncio.run(_opened(path))
    else:
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT name, body FROM objects")
        keep = {name: Sandbox.model_validate_json(body) for name, body in rows}
    load_s = time.perf_counter() - begun
    for _ in range(3):
        gc.collect()
    begun = time.perf_counter()
    gc.collect()
    gc_ms = (time.perf_counter() - begun) * 1e3
    kib = (_rss_bytes() - before) / OBJECTS / 1024
    print(json.dumps({"kib": kib, "gc_ms": gc_ms, "load_s": load_s}), flush=True)
    assert keep is not None
    os._exit(0)


async def _opened(path: Path) -> Store:
    return await Store.open(path, clock=SystemClock())


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    if len(sys.argv) > 1:
        memory_arm(sys.argv[1], Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as directory:
        measure_writes(Path(directory))
        measure_memory(Path(directory))


if __name__ == "__main__":
    main()
