"""Stories over the API: who did it, told of the living and of the gone, to whoever may read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store
from sandboxer.testing.builders import sandbox
from sandboxer.testing.clock import ManualClock
from tests.integration.api.serving_lab import SANDBOXES, Lab, served, status_of

ROOT = "/apis/sandboxer.dev/v1alpha1"
STORY = f"{SANDBOXES}/hello/story"
DOCUMENT = {
    "apiVersion": "sandboxer.dev/v1alpha1",
    "kind": "Sandbox",
    "metadata": {"name": "hello"},
    "spec": {"profile": "fake"},
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with served(tmp_path, ManualClock()) as opened:
        yield opened


async def items(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_every_way_to_write_names_its_user(lab: Lab) -> None:
    """POST, PUT, PATCH, apply and DELETE leave the token's user and the program; the socket is local."""
    agent = {"User-Agent": "kubectl/v1.32.2 (linux/amd64) kubernetes/abc"}
    async with lab.client(lab.access("alice", "admin").token) as alice, lab.local_client() as local:
        made = (await alice.post(SANDBOXES, json=DOCUMENT, headers=agent)).json()
        made["spec"]["env"] = {"A": "1"}
        made = (await local.put(f"{SANDBOXES}/hello", json=made)).json()
        merge = {"Content-Type": "application/merge-patch+json"}
        patch = json.dumps({"spec": {"env": {"A": "2"}}})
        await alice.patch(f"{SANDBOXES}/hello", content=patch, headers=merge)
        applied = {**DOCUMENT, "spec": {"profile": "fake", "driftPolicy": "Report"}}
        apply = {"Content-Type": "application/apply-patch+yaml"}
        await alice.patch(
            f"{SANDBOXES}/hello?fieldManager=me", content=json.dumps(applied), headers=apply
        )
        deleted = await alice.delete(f"{SANDBOXES}/hello", headers=agent)
        ((story,), (stone,)) = await items(local, STORY), await items(local, f"{ROOT}/tombstones")

    told = story["transitions"]
    assert deleted.status_code == 200
    assert [(t["by"], t["reason"], t["evidence"].get("fields", "")) for t in told] == [
        ("user/alice", "Created", ""),
        ("user/local", "SpecChanged", "env"),
        ("user/alice", "SpecChanged", "env"),
        ("user/alice", "SpecChanged", "driftPolicy"),
        ("user/alice", "Deleted", ""),
    ]
    assert told[0]["via"] == "kubectl/v1.32.2"
    assert {t["trigger"] for t in told} == {"request"}
    assert (stone["deletedBy"], stone["deletedVia"]) == ("user/alice", "kubectl/v1.32.2")
    assert story["tombstone"] == stone


async def test_deleting_a_collection_names_its_user(lab: Lab) -> None:
    """Whoever deletes all of them is on each tombstone; a rehearsal leaves none."""
    await lab.store.create(sandbox("a"))
    await lab.store.create(sandbox("b"))
    async with lab.client(lab.access("alice", "admin").token) as alice:
        await alice.request("DELETE", f"{SANDBOXES}?dryRun=All")
        rehearsed = await items(alice, f"{ROOT}/namespaces/default/tombstones")
        await alice.delete(SANDBOXES)
        stones = await items(alice, f"{ROOT}/namespaces/default/tombstones")
        elsewhere = await items(alice, f"{ROOT}/namespaces/other/tombstones")

    assert rehearsed == elsewhere == []
    assert {(stone["name"], stone["deletedBy"]) for stone in stones} == {
        ("a", "user/alice"), ("b", "user/alice"),
    }  # fmt: skip


async def test_kubectl_deletes_and_is_named(lab: Lab) -> None:
    """The real kubectl is known by its user and its own name, and reads the story raw."""
    await lab.store.create(sandbox())
    bob = lab.access("bob", "admin")

    done = await lab.kubectl("delete", "sandbox", "hello", access=bob)
    read = await lab.kubectl("get", "--raw", STORY, access=bob)

    assert done.status == 0, done.stderr
    (story,) = json.loads(read.stdout)["items"]
    assert story["tombstone"]["deletedBy"] == "user/bob"
    assert story["tombstone"]["deletedVia"].startswith("kubectl")


async def test_a_viewer_reads_stories(lab: Lab) -> None:
    """Stories are for reading, and nobody writes one."""
    await lab.store.create(sandbox())
    async with lab.client(lab.access("eve", "viewer").token) as eve:
        (story,) = await items(eve, STORY)
        written = await eve.put(STORY, json=story)
    async with lab.client() as nobody:
        refused = await nobody.get(STORY)

    assert [t["reason"] for t in story["transitions"]] == ["Created"]
    assert written.status_code == 403
    assert status_of(refused)[0] == 401


async def _thrice(store: Store) -> list[str]:
    uids = []
    for _ in range(2):
        uids.append((await store.create(sandbox())).metadata.uid)
        await store.delete(Sandbox, "hello")
    return [*uids, (await store.create(sandbox())).metadata.uid]


async def test_the_living_comes_before_the_gone(lab: Lab) -> None:
    """A name means the living one, then the newest that is gone; `all` means every one of them."""
    uids = await _thrice(lab.store)
    async with lab.local_client() as client:
        living = await items(client, STORY)
        every = await items(client, f"{STORY}?all=true")
        await lab.store.delete(Sandbox, "hello")
        newest = await items(client, STORY)

    assert [each["uid"] for each in living] == [uids[2]]
    assert "tombstone" not in living[0]
    assert living[0]["phase"] == "Pending"
    assert [each["uid"] for each in every] == [uids[2], uids[1], uids[0]]
    assert [each["uid"] for each in newest] == [uids[2]]


async def test_a_uid_means_one_in_any_namespace(lab: Lab) -> None:
    """A uid, its beginning, or the name on the host finds a sandbox, living or gone."""
    uids = await _thrice(lab.store)
    async with lab.local_client() as client:
        for uid in (uids[0], uids[2]):
            short = f"sbx-{uid.replace('-', '')[:12]}"
            for word in (uid, uid[:8], uid[:11], short):
                path = f"{ROOT}/namespaces/other/sandboxes/{word}/story"
                assert [each["uid"] for each in await items(client, path)] == [uid], word


@pytest.mark.parametrize("name", ["nosuch", "deadbeef", "sbx-deadbeefdead", "------------"])
async def test_nobody_of_that_name(lab: Lab, name: str) -> None:
    """What never was is not found, in words."""
    async with lab.local_client() as client:
        answer = await client.get(f"{SANDBOXES}/{name}/story")

    code, reason, message = status_of(answer)
    assert (code, reason) == (404, "NotFound")
    assert "none of that name is remembered" in message


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=99999999999"])
async def test_a_wrong_limit_is_refused(lab: Lab, query: str) -> None:
    """A limit that is no number of tombstones is a bad request."""
    async with lab.local_client() as client:
        assert status_of(await client.get(f"{ROOT}/tombstones?{query}"))[0] == 400


async def test_a_program_without_a_name_is_none(lab: Lab) -> None:
    """A User-Agent that is no program's name is not kept."""
    async with lab.local_client() as client:
        agent = {"User-Agent": "<red>"}
        await client.post(SANDBOXES, json=DOCUMENT, headers=agent)
        (story,) = await items(client, STORY)

    assert story["transitions"][0]["via"] == ""
