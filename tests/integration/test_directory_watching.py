"""A running source with real file events: it is woken long before its periodic look."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from sandboxer.clock import SystemClock
from sandboxer.kinds.event import Event
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.sources import directory, watching
from sandboxer.sources.directory import RESCAN_S, DirectorySource
from sandboxer.store import Store

HEAD = "apiVersion: sandboxer.dev/v1alpha1\nkind: Sandbox\nmetadata:\n  name: {}\n"

# Seconds. Far below the periodic look, so only an event can have woken the source; far above what
# it takes on a busy machine.
PROMPT_S = RESCAN_S / 3


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data/store.db", clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
async def root(tmp_path: Path, store: Store) -> AsyncIterator[Path]:
    """A directory with sandbox `first`, kept by a source that runs."""
    specs = tmp_path / "here/specs"
    write(specs / "first.yaml", "first")
    running = asyncio.create_task(DirectorySource(store, specs, clock=SystemClock()).run())
    await until(lambda: names(store) == {"first"})
    # Woken once by an event, it is known to watch.
    async with asyncio.timeout(PROMPT_S):
        while names(store) == {"first"}:
            write(specs / "first.yaml", "first", "watched")
            await asyncio.sleep(0.1)
    yield specs
    assert not running.done()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def write(path: Path, *described: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(HEAD.format(name) for name in described))


def names(store: Store) -> set[str]:
    return {entry.key.name for entry in store.entries("Sandbox")}


async def until(holds: Callable[[], bool], timeout_s: float = PROMPT_S) -> None:
    """Return when *holds* does; the store says so by its contents, the source by its log."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - there is nothing to wait on but the result
            await asyncio.sleep(0.01)


async def test_a_new_file_is_seen_at_once(root: Path, store: Store) -> None:
    """Written, replaced by a rename, or in a new directory: all wake the source."""
    write(root / "a.yaml", "a")
    await until(lambda: "a" in names(store))
    write(root / "b.tmp", "b")
    (root / "b.tmp").replace(root / "b.yaml")
    await until(lambda: "b" in names(store))
    write(root / "new/deep/c.yaml", "c")
    await until(lambda: "c" in names(store))


async def test_a_directory_renamed_away_and_back_is_watched_again(root: Path, store: Store) -> None:
    """Nothing is lost while it is away, and events count again when it is back."""
    away = await asyncio.to_thread(root.rename, root.with_name("away"))
    await until(lambda: warned(store, str(root)))
    away.rename(root)
    write(root / "a.yaml", "a")

    await until(lambda: "a" in names(store))

    assert {"first", "watched"} <= names(store)


async def test_a_directory_made_anew_is_watched(root: Path, store: Store) -> None:
    """A checkout that is deleted and cloned again has another inode; it is noticed."""
    shutil.rmtree(root)
    await until(lambda: warned(store, str(root)))
    write(root / "first.yaml", "first", "watched")
    write(root / "a.yaml", "a")
    await until(lambda: "a" in names(store))

    write(root / "b.yaml", "b")
    await until(lambda: "b" in names(store))


async def test_a_flipped_link_wakes(tmp_path: Path, store: Store) -> None:
    """git-sync replaces a link; the directory behind it gives no event, its parent does."""
    write(tmp_path / "here/one/a.yaml", "a")
    write(tmp_path / "here/two/a.yaml", "a", "b")
    specs = tmp_path / "here/specs"
    specs.symlink_to("one")
    running = asyncio.create_task(DirectorySource(store, specs, clock=SystemClock()).run())
    await until(lambda: names(store) == {"a"})

    (tmp_path / "here/next").symlink_to("two")
    (tmp_path / "here/next").replace(specs)
    await until(lambda: names(store) == {"a", "b"})

    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_burst_of_a_thousand_files_is_one_matter(root: Path, store: Store) -> None:
    """A checkout that writes a thousand files is applied whole."""
    for number in range(1000):
        write(root / f"many/a{number}.yaml", f"a{number}")

    await until(lambda: len(names(store)) == 1002, timeout_s=RESCAN_S)


async def test_a_problem_is_told_once_and_its_end_too(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken file is one event and one line of the log, however often it is seen."""
    caplog.set_level(logging.INFO, "sandboxer")
    (root / "broken.yaml").write_text("kind: [\n")
    await until(lambda: warned(store, "broken.yaml:2:1"))
    (root / "note.txt").write_text("wakes the source again")
    (root / "other.yaml").write_text("kind: ]\n")
    await until(lambda: warned(store, "other.yaml:1"))
    (root / "broken.yaml").unlink()
    (root / "other.yaml").unlink()
    await until(lambda: "The spec directory is in order" in caplog.messages)

    events = [event for event in store.list(Event) if "broken.yaml" in event.message]
    assert [(event.reason, event.type, event.count) for event in events] == [
        ("SpecDirectoryError", "Warning", 1)
    ]
    assert store.list(Sandbox)


async def test_a_flood_of_problems_is_told_in_a_few_events(root: Path, store: Store) -> None:
    """A bad merge of hundreds of files does not fill the store with events."""
    for number in range(200):
        (root / f"broken{number}.yaml").write_text("kind: [\n")
    await until(lambda: warned(store, "and 180 more problems"))

    write(root / "note.yaml", "first")
    assert len([e for e in store.list(Event) if e.reason == "SpecDirectoryError"]) < 200


async def test_where_nothing_can_be_watched_the_source_runs_on(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory whose parent is missing, too, is no reason to stop."""
    source = DirectorySource(store, tmp_path / "no/where/specs", clock=SystemClock())
    running = asyncio.create_task(source.run())

    await until(lambda: any("cannot be watched" in message for message in caplog.messages))
    await until(lambda: warned(store, "no/where/specs"))

    assert not running.done()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_watch_that_breaks_is_opened_again(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of watches in the middle of it: said, survived, and tried again after the next look."""
    whole, failures = watchfiles.awatch, [RuntimeError("OS file watch limit reached.")]

    async def breaking(*paths: Path, **options: Any) -> AsyncIterator[object]:
        if failures:
            raise ExceptionGroup("broken", [failures.pop()])
        async for changes in whole(*paths, **options):
            yield changes

    monkeypatch.setattr(watching, "awatch", breaking)
    monkeypatch.setattr(directory, "RESCAN_S", 0.5)
    away = await asyncio.to_thread(root.rename, root.with_name("away"))
    await until(lambda: warned(store, str(root)))
    away.rename(root)
    await until(lambda: any("cannot be watched" in message for message in caplog.messages))

    write(root / "a.yaml", "a")
    await until(lambda: "a" in names(store))


def warned(store: Store, text: str) -> bool:
    """Tell whether a warning about a directory has this text."""
    return any(text in event.message for event in store.list(Event) if event.type == "Warning")
