"""Watches over a real store: what is told, in which order, and how it ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from sandboxer.api import broadcast, watching
from sandboxer.api.app import create_app
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.namespace import Namespace
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Delete, EventRecorder, ExpiredError, Store
from sandboxer.testing.clock import ManualClock
from tests.integration.api import watch_lab
from tests.integration.api.watch_lab import GROUP, SANDBOXES, TABLE


def sandbox(name: str, namespace: str = "default", **labels: str) -> Sandbox:
    return Sandbox(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels))


async def relabel(store: Store, name: str, **labels: str) -> Sandbox:
    found = store.get(Sandbox, name)
    assert found is not None
    metadata = found.metadata.model_copy(update={"labels": labels})
    return await store.update(found.model_copy(update={"metadata": metadata}))


@pytest.fixture
def app(store: Store) -> Any:
    return create_app(store)


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}])
async def test_it_begins_with_what_is_there(store: Store, app: Any, query: dict[str, str]) -> None:
    """Without a version, or at 0, everything comes as ADDED and then every change in order."""
    await store.create(sandbox("a"))

    async with watch_lab.watching(app, **query) as watch:
        await store.create(sandbox("b"))
        await store.delete(Sandbox, "a")

        assert await watch.told(3) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


async def test_it_goes_on_strictly_after_a_version(store: Store, app: Any) -> None:
    """A watch from a version misses nothing after it and repeats nothing before it."""
    await store.create(sandbox("a"))
    since = str(store.revision)
    await store.create(sandbox("b"))

    async with watch_lab.watching(app, resourceVersion=since) as watch:
        await store.create(sandbox("c"))

        assert await watch.told(2) == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_second_watch_resumes_from_the_log(store: Store, app: Any) -> None:
    """What an earlier watch has seen is there for one that begins in the middle of it."""
    async with watch_lab.watching(app) as first:
        for name in ("a", "b", "c"):
            await store.create(sandbox(name))
        await first.told(2)

        async with watch_lab.watching(app, resourceVersion="1") as second:
            assert await second.told(2) == [("ADDED", "b"), ("ADDED", "c")]


async def test_other_namespaces_and_kinds_are_not_told(store: Store, app: Any) -> None:
    """A watch of one namespace hears of its objects only."""
    async with watch_lab.watching(app) as watch:
        await store.create(sandbox("elsewhere", namespace="other"))
        await store.create(Namespace(metadata=ObjectMeta(name="n")))
        await store.create(sandbox("here"))

        assert await watch.told(1) == [("ADDED", "here")]


async def test_a_compacted_version_is_a_410_at_once(
    store: Store, client: httpx.AsyncClient
) -> None:
    """A version whose changes are gone is refused before the stream begins."""
    for name in ("a", "b", "c", "d"):
        await store.create(sandbox(name))
    await store.compact(keep=1)

    answer = await client.get(SANDBOXES, params={"watch": "1", "resourceVersion": "1"})

    assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")


async def test_a_version_of_the_future_asks_to_come_back(client: httpx.AsyncClient) -> None:
    """A version the store has not reached is a 504 with the cause clients look for."""
    answer = await client.get(SANDBOXES, params={"watch": "1", "resourceVersion": "1000"})

    assert answer.status_code == 504
    assert answer.json()["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_it_ends_after_the_time_asked_for(client: httpx.AsyncClient) -> None:
    """TimeoutSeconds bounds a watch, which then ends without an error."""
    answer = await client.get(SANDBOXES, params={"watch": "1", "timeoutSeconds": "1"})

    assert (answer.status_code, answer.text) == (200, "")


async def test_a_bookmark_comes_before_the_end(store: Store, app: Any) -> None:
    """A client that allows bookmarks is told last up to which version it has heard everything."""
    await store.create(sandbox("a"))

    async with watch_lab.watching(app, allowWatchBookmarks="true", timeoutSeconds="1") as watch:
        await store.create(Namespace(metadata=ObjectMeta(name="of-another-kind")))
        added, bookmark = await watch.rest()

    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert bookmark["object"] == {
        "kind": "Sandbox",
        "apiVersion": "sandboxer.dev/v1alpha1",
        "metadata": {"resourceVersion": str(store.revision), "creationTimestamp": None},
    }


async def test_bookmarks_come_from_time_to_time(
    store: Store, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle watch is told its version again and again, but only when it allows that."""
    monkeypatch.setattr(watching, "BOOKMARK_S", 0.01)
    async with (
        watch_lab.watching(app) as silent,
        watch_lab.watching(app, allowWatchBookmarks="true") as watch,
    ):
        types = [(await watch.line())["type"] for _ in range(3)]
        await store.create(sandbox("a"))

        assert types == ["BOOKMARK"] * 3
        assert await silent.told(1) == [("ADDED", "a")]


async def test_an_idle_watch_sleeps(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without bookmarks nothing wakes it before its time is up, however long ago one was due."""
    monkeypatch.setattr(watching, "BOOKMARK_S", 0.01)
    waits = 0
    wait = broadcast.Position.wait

    async def counted(position: broadcast.Position, until_s: float) -> None:
        nonlocal waits
        waits += 1
        await wait(position, until_s)

    monkeypatch.setattr(broadcast.Position, "wait", counted)

    await client.get(SANDBOXES, params={"watch": "1", "timeoutSeconds": "1"})

    assert waits == 1


async def test_a_list_by_watching_ends_in_a_marked_bookmark(store: Store, app: Any) -> None:
    """With sendInitialEvents what is there is followed by a bookmark that says so."""
    await store.create(sandbox("a"))
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }

    async with watch_lab.watching(app, **query) as watch:
        assert await watch.told(1) == [("ADDED", "a")]
        bookmark = (await watch.line())["object"]["metadata"]
        await store.create(sandbox("b"))
        assert await watch.told(1) == [("ADDED", "b")]

    assert bookmark["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert bookmark["resourceVersion"] == "1"


async def test_a_watch_may_begin_with_nothing(store: Store, app: Any) -> None:
    """With sendInitialEvents=false only what happens from now on is told."""
    await store.create(sandbox("a"))
    query = {"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"}

    async with watch_lab.watching(app, **query) as watch:
        await store.create(sandbox("b"))

        assert await watch.told(1) == [("ADDED", "b")]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("watch=1&sendInitialEvents=true", "resourceVersionMatch"),
        ("watch=1&resourceVersionMatch=NotOlderThan", "resourceVersionMatch"),
        ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", "resourceVersionMatch"),
        ("sendInitialEvents=true", "sendInitialEvents"),
        ("resourceVersionMatch=Exact", "resourceVersionMatch"),
        ("resourceVersionMatch=Exact&resourceVersion=0", "resourceVersionMatch"),
        ("resourceVersionMatch=Newest&resourceVersion=1", "resourceVersionMatch"),
    ],
)
async def test_options_that_do_not_go_together_are_invalid(
    client: httpx.AsyncClient, query: str, field: str
) -> None:
    """Such a combination is a 422 that names the option, so that clients fall back to listing."""
    answer = await client.get(f"{SANDBOXES}?{query}")

    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    assert field in [cause["field"] for cause in answer.json()["details"]["causes"]]


async def test_an_object_that_stops_fitting_is_deleted_in_its_last_form(
    store: Store, app: Any
) -> None:
    """For a selector an object comes and goes with its labels, at the version of the change."""
    await store.create(sandbox("a", app="web"))
    await store.create(sandbox("b", app="api"))

    async with watch_lab.watching(app, labelSelector="app=web", resourceVersion="2") as watch:
        await relabel(store, "b", app="other")
        gone = await relabel(store, "a", app="db")
        await relabel(store, "a", app="web")
        await relabel(store, "a", app="web", tier="1")
        lines = [await watch.line() for _ in range(3)]

    assert [line["type"] for line in lines] == ["DELETED", "ADDED", "MODIFIED"]
    last = lines[0]["object"]["metadata"]
    assert (last["labels"], last["resourceVersion"]) == (
        {"app": "web"},
        gone.metadata.resource_version,
    )


async def test_a_selector_over_missed_changes_errs_towards_deleting(store: Store, app: Any) -> None:
    """Of changes before the watch began only the new form is known, and that decides."""
    await store.create(sandbox("a", app="web"))
    await store.create(sandbox("b", app="web"))
    await relabel(store, "a", app="db")
    await relabel(store, "b", app="web", tier="1")

    async with watch_lab.watching(app, labelSelector="app=web", resourceVersion="2") as watch:
        assert await watch.told(2) == [("DELETED", "a"), ("MODIFIED", "b")]


async def test_one_object_by_its_name(store: Store, app: Any) -> None:
    """What `kubectl get NAME -w` asks: the object as it is, then its changes only."""
    await store.create(sandbox("a"))
    await store.create(sandbox("b"))
    query = {"fieldSelector": "metadata.name=b", "resourceVersion": "0"}

    async with watch_lab.watching(app, **query) as watch:
        await relabel(store, "a", tick="1")
        await relabel(store, "b", tick="1")

        assert await watch.told(2) == [("ADDED", "b"), ("MODIFIED", "b")]


async def test_a_table_names_its_columns_once(store: Store, app: Any) -> None:
    """Each event is a table of one row; only the first one carries the columns."""
    await store.create(sandbox("a"))

    async with watch_lab.watching(app, accept=TABLE) as watch:
        await store.create(sandbox("b"))
        first, second = [(await watch.line())["object"] for _ in range(2)]

    assert [table["kind"] for table in (first, second)] == ["Table", "Table"]
    assert first["columnDefinitions"][0]["name"] == "Name"
    assert second["columnDefinitions"] == []
    assert [len(table["rows"]) for table in (first, second)] == [1, 1]
    assert second["rows"][0]["cells"][0] == "b"


async def test_namespaces_come_into_use_and_go(store: Store, app: Any) -> None:
    """A namespace is ADDED with its first object and DELETED with its last one."""
    async with watch_lab.watching(app, "/api/v1/namespaces") as watch:
        await store.create(sandbox("a", namespace="used"))
        assert await watch.told(2) == [("ADDED", "default"), ("ADDED", "used")]
        await store.delete(Sandbox, "a", "used")
        assert await watch.told(1) == [("DELETED", "used")]


async def test_events_are_watched_in_both_groups(store: Store, app: Any) -> None:
    """The same event comes in the form of the group it is watched in."""
    created = await store.create(sandbox("a"))
    path = "/apis/events.k8s.io/v1/namespaces/default/events"

    async with watch_lab.watching(app, path) as watch:
        await EventRecorder(store, ManualClock()).record(created, "Tested", "It was tested.")
        event = (await watch.line())["object"]

    assert event["apiVersion"] == "events.k8s.io/v1"
    assert (event["note"], event["regarding"]["name"]) == ("It was tested.", "a")


async def test_many_watches_hear_every_change_in_order(store: Store, app: Any) -> None:
    """500 watches of 100 changes each miss none and see them in the same order."""
    async with AsyncExitStack() as stack:
        watches = [
            await stack.enter_async_context(watch_lab.watching(app, f"{GROUP}/sandboxes"))
            for _ in range(500)
        ]
        wanted = []
        for number in range(100):
            await store.create(sandbox(f"s{number:03}"))
            wanted.append(("ADDED", f"s{number:03}"))

        for watch in watches:
            assert await watch.told(100) == wanted


async def test_a_change_is_encoded_once_for_all(store: Store, app: Any) -> None:
    """Watches that want the same share the same line, also as a table."""
    async with (
        watch_lab.watching(app) as first,
        watch_lab.watching(app) as second,
    ):
        await store.create(sandbox("a"))
        await first.told(1)
        await second.told(1)

        assert len(app.state.broadcast._lines) == 1


async def test_a_watch_that_does_not_read_is_left_behind(
    store: Store, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs nobody else anything, and ends with a 410 when the log has gone on without it."""
    monkeypatch.setattr(broadcast, "MAX_CHANGES", 20)
    monkeypatch.setattr(broadcast, "_SPARE", 5)
    async with watch_lab.watching(app) as slow, watch_lab.watching(app) as quick:
        slow.reads.clear()
        for number in range(60):
            await store.create(sandbox(f"s{number:03}"))
            assert await quick.told(1) == [("ADDED", f"s{number:03}")]
        assert len(app.state.broadcast._log) < 26

        slow.reads.set()
        rest = await slow.rest()

    assert (rest[-1]["type"], rest[-1]["object"]["code"]) == ("ERROR", 410)
    assert rest[-1]["object"]["reason"] == "Expired"


async def test_a_client_that_never_reads_is_given_up(
    store: Store, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk nobody takes ends the watch, so that it does not stay for ever."""
    monkeypatch.setattr(watching, "STALL_S", 0.05)
    await store.create(sandbox("a"))
    watch = watch_lab.Watch()
    watch.reads.clear()
    scope = {
        "type": "http", "method": "GET", "path": SANDBOXES, "raw_path": b"", "headers": [],
        "query_string": b"watch=1", "http_version": "1.1", "root_path": "", "scheme": "http",
    }  # fmt: skip

    async with asyncio.timeout(watch_lab.DEADLINE_S):
        await app(scope, watch.receive, watch.send)

    assert (watch.sent, watch.ended.is_set()) == (1, False)


async def test_all_watches_end_when_the_server_stops(store: Store, app: Any) -> None:
    """They end as if their time were up, after what was still to be told."""
    async with watch_lab.watching(app, allowWatchBookmarks="true") as watch:
        await store.create(sandbox("a"))
        watching.end_watches(app)

        assert [line["type"] for line in await watch.rest()] == ["ADDED", "BOOKMARK"]


async def test_a_large_document_does_not_fill_the_memory(
    store: Store, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is bounded in bytes as well."""
    monkeypatch.setattr(broadcast, "MAX_BYTES", 50_000)
    monkeypatch.setattr(broadcast, "_SPARE", 1)
    async with watch_lab.watching(app) as watch:
        for number in range(12):
            await store.create(
                Sandbox(
                    metadata=ObjectMeta(
                        name=f"s{number:03}",
                        namespace="default",
                        annotations={"note": "x" * 10_000},
                    )
                )
            )
        await watch.told(12)

        assert sum(len(change.entry.body) for change in app.state.broadcast._log) <= 50_000


async def test_changes_that_go_by_while_it_begins_are_not_skipped(
    store: Store, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was missed is read from the table; when the log loses more meanwhile, that is told."""
    first = await store.create(sandbox("a"))
    await store.create(sandbox("b"))
    monkeypatch.setattr(broadcast, "MAX_BYTES", 1)
    log = watching.broadcast_of(app)
    read = log._missed

    async def slowly(since: int, reached: int) -> Any:
        missed = await read(since, reached)
        for name in ("c", "d", "e"):
            await store.create(sandbox(name))
        await asyncio.sleep(0)
        return missed

    monkeypatch.setattr(log, "_missed", slowly)

    with pytest.raises(ExpiredError):
        await log.join(int(first.metadata.resource_version))


async def test_large_lines_do_not_fill_the_memory(
    store: Store, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was encoded for one watch and may serve others is bounded in bytes as well."""
    monkeypatch.setattr(broadcast, "MAX_BYTES", 50_000)
    log = watching.broadcast_of(app)

    lines = [log.line((number,), lambda: b"x" * 10_000) for number in range(12)]

    assert {len(line) for line in lines} == {10_000}
    assert sum(map(len, log._lines.values())) <= 50_000


async def test_many_deletions_in_one_transaction_are_told_one_by_one(
    store: Store, app: Any
) -> None:
    """A group commit is many changes, each with its own version."""
    for name in ("a", "b", "c"):
        await store.create(sandbox(name))

    async with watch_lab.watching(app, resourceVersion="3") as watch:
        await store.write([Delete(Sandbox, name) for name in ("a", "b", "c")])
        lines = [await watch.line() for _ in range(3)]

    assert [line["type"] for line in lines] == ["DELETED"] * 3
    assert len({line["object"]["metadata"]["resourceVersion"] for line in lines}) == 3
