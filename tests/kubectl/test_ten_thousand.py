"""Ten thousand sandboxes behind the API: pages, old versions, and many that watch."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxer.clock import SystemClock
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.settings import settings_from_environment
from sandboxer.store import Create, Store
from tests.kubectl.session import PATIENCE_S, Kubectl, sandbox
from tests.kubectl.standalone import Standalone, standalone
from tests.rig.kubectl import kubectl_program

COUNT = 10_000
WATCHERS = 500
CHANGES = 100
NAMESPACE = "many"
COLLECTION = f"/apis/sandboxer.dev/v1alpha1/namespaces/{NAMESPACE}/sandboxes"
# Of one sandbox only.
ONE = "&fieldSelector=metadata.name%3Ds00000"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """The API without an engine over a full store that has forgotten how it came to be."""
    directory = tmp_path_factory.mktemp("many")
    asyncio.run(_fill(directory))
    with standalone(directory) as running:
        yield running


async def _fill(directory: Path) -> None:
    settings = settings_from_environment({"SANDBOXER_DATA_DIR": str(directory)})
    store = await Store.open(settings.database_path, clock=SystemClock())
    try:
        await store.write([Create(_sandbox(number)) for number in range(COUNT)])
        await store.compact(keep=CHANGES)
    finally:
        await store.close()


def _sandbox(number: int) -> Sandbox:
    document = sandbox(f"s{number:05}", labels={"tenth": str(number % 10)})
    document["metadata"]["namespace"] = NAMESPACE
    return Sandbox.parse(document)


@pytest.fixture(scope="module")
def many(server: Standalone, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """A kubectl that talks to that server."""
    home = tmp_path_factory.mktemp("home")
    return Kubectl(kubectl_program(), home, server.kubeconfig, NAMESPACE)


def test_get_goes_through_all_pages(many: Kubectl) -> None:
    """`get -A` asks for 500 at a time and shows each sandbox once."""
    done = many.run("get", "sbx", "-A", "-o", "name", "-v=6")

    names = done.stdout.splitlines()
    assert (len(names), len(set(names))) == (COUNT, COUNT)
    # NOTE: answers, for kubectl also tells of waiting, with the address in it.
    pages = re.findall(r'"Response" verb="GET" url="\S+[?&]limit=500" status="200 OK"', done.stderr)
    assert len(pages) == COUNT // 500, done.stderr


def test_selectors_find_among_many(many: Kubectl) -> None:
    """A tenth of them by label, in pages that keep the selector."""
    said = many.ok("get", "sbx", "-n", NAMESPACE, "-l", "tenth=3", "--no-headers")

    assert len(said.splitlines()) == COUNT // 10


def test_an_old_version_is_gone_and_the_client_goes_on(server: Standalone, many: Kubectl) -> None:
    """Trap 11: a watch of a forgotten version is a 410; after a new list it goes on."""
    watch = f"{COLLECTION}?watch=true&resourceVersion=1"
    assert "too old resource version" in many.fails("get", "--raw", watch)
    headers = {"authorization": f"Bearer {server.token}"}
    with httpx.Client(
        base_url=server.url, headers=headers, timeout=PATIENCE_S, verify=server.tls
    ) as client:
        gone = client.get(watch)
        assert (gone.status_code, gone.json()["reason"]) == (410, "Expired")

        version = client.get(COLLECTION, params={"limit": 1}).json()["metadata"]["resourceVersion"]
        _label(client, "s00001", "recovered")
        following = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "30"}
        with client.stream("GET", COLLECTION, params=following) as stream:
            event = json.loads(next(stream.iter_lines()))

    assert event["type"] == "MODIFIED"
    assert event["object"]["metadata"]["labels"]["step"] == "recovered"


def _label(client: httpx.Client, name: str, step: str) -> None:
    patch = {"metadata": {"labels": {"step": step}}}
    client.patch(f"{COLLECTION}/{name}", json=patch, headers=MERGE).raise_for_status()


async def test_five_hundred_watch_a_hundred_changes(server: Standalone) -> None:
    """Everybody hears every change, in the order they were made in."""
    headers = {"authorization": f"Bearer {server.token}"}
    context = server.tls
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=PATIENCE_S, verify=context
    ) as client:
        listed = await client.get(COLLECTION, params={"limit": 1})
        version = listed.json()["metadata"]["resourceVersion"]
        ready = asyncio.Semaphore(0)
        query = f"GET {COLLECTION}?watch=true&resourceVersion={version}{ONE} HTTP/1.1"
        head = f"{query}\r\nHost: api\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        watching = [
            asyncio.create_task(_heard(server.url, head, context, ready)) for _ in range(WATCHERS)
        ]
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(WATCHERS):
                await ready.acquire()
        for number in range(CHANGES):
            patch = {"metadata": {"labels": {"step": str(number)}}}
            answer = await client.patch(f"{COLLECTION}/s00000", json=patch, headers=MERGE)
            assert answer.status_code == 200
        async with asyncio.timeout(PATIENCE_S):
            heard = await asyncio.gather(*watching)

    assert heard == [[str(number) for number in range(CHANGES)]] * WATCHERS


async def _heard(
    url: str, head: str, context: ssl.SSLContext, ready: asyncio.Semaphore
) -> list[str]:
    """Return the steps one watcher is told, over a connection of its own."""
    host, _, port = url.removeprefix("https://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, limit=2**20)
    writer.write(head.encode())
    assert b" 200 " in await reader.readline()
    ready.release()
    steps: list[str] = []
    while len(steps) < CHANGES:
        line = await reader.readline()
        assert line, "the watch has ended"
        if line.startswith(b"{"):
            event: dict[str, Any] = json.loads(line)
            steps.append(event["object"]["metadata"]["labels"]["step"])
    writer.close()
    await writer.wait_closed()
    return steps
