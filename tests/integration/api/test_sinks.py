"""Sinks and dead letters over the API: shown to everybody, revived by admins."""

from __future__ import annotations

import httpx
import pytest

from sandboxer.api.users import LOCAL, User, action_of, permits
from sandboxer.kinds.meta import API_VERSION
from sandboxer.store import Registration, Store
from sandboxer.testing.builders import sandbox

ROOT = f"/apis/{API_VERSION}"


@pytest.fixture
async def dead(store: Store) -> int:
    """Have one sink that gave up one event; return its number."""
    await store.deliveries.register([Registration(name="hub", url="https://hub/…")])
    await store.create(sandbox())
    (letter,) = await store.deliveries.due("hub", limit=10, furthest_s=600)
    await store.deliveries.bury(letter, "It answered 410.")
    return letter.position


async def test_shown(client: httpx.AsyncClient, dead: int) -> None:
    """Sinks are listed with what waits, dead letters with why; neither shows an event."""
    sinks = (await client.get(f"{ROOT}/sinks")).json()
    letters = (await client.get(f"{ROOT}/deadletters", params={"sink": "hub"})).json()
    others = (await client.get(f"{ROOT}/deadletters", params={"sink": "other"})).json()

    (hub,), (letter,) = sinks["items"], letters["items"]
    assert (hub["name"], hub["waiting"], hub["dead"]) == ("hub", 0, 1)
    assert (letter["number"], letter["type"], letter["attempts"]) == (dead, "created", 1)
    assert "body" not in letter
    assert others["items"] == []


async def test_the_rest_is_counted(client: httpx.AsyncClient, store: Store, dead: int) -> None:
    """A list that is cut short says how many more there are."""
    await store.create(sandbox("other"))
    (letter,) = await store.deliveries.due("hub", limit=10, furthest_s=600)
    await store.deliveries.bury(letter, "It answered 410.")

    short = (await client.get(f"{ROOT}/deadletters", params={"limit": "1"})).json()
    whole = (await client.get(f"{ROOT}/deadletters")).json()

    assert [each["number"] for each in short["items"]] == [dead]
    assert (short["remaining"], whole["remaining"]) == (1, 0)


async def test_revived(client: httpx.AsyncClient, store: Store, dead: int) -> None:
    """A dead letter is sent again when somebody asks, once."""
    first = await client.post(f"{ROOT}/deadletters", params={"number": dead})
    second = await client.post(f"{ROOT}/deadletters", params={"number": dead})

    assert (first.json()["revived"], second.json()["revived"]) == (1, 0)
    assert len(await store.deliveries.due("hub", limit=10, furthest_s=600)) == 1


async def test_wrong_number(client: httpx.AsyncClient) -> None:
    """A number that is none is refused, not taken for all."""
    answer = await client.post(f"{ROOT}/deadletters", params={"number": "0"})

    assert answer.status_code == 400


def test_viewers_look_only() -> None:
    """A viewer may see what was given up, and not have it sent again."""
    viewer = User("bob", "viewer")
    look = action_of({"path": f"{ROOT}/deadletters", "method": "GET"})
    revive = action_of({"path": f"{ROOT}/deadletters", "method": "POST"})

    assert (permits(viewer, look), permits(viewer, revive)) == (True, False)
    assert permits(LOCAL, revive)
