"""A controller that is killed tells the State Hub everything, and lets nothing live too long."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.integration.cli_lab import HELLO, installed, started
from tests.integration.sink_lab import HubServer, Received, hub_server


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as opened:
        yield opened


@pytest.fixture
def installation(tmp_path: Path, hub: HubServer) -> Iterator[Installation]:
    with installed(tmp_path) as made:
        made.set_environment(SANDBOXER_STATE_HUB_URL=hub.url)
        yield made


def transitions(installation: Installation, name: str) -> list[tuple[str, str]]:
    story = json.loads(installation.ok("explain", name, "-o", "json"))["items"][0]
    return [(each["reason"], each["by"]) for each in story["transitions"]]


def told(received: list[Received]) -> list[tuple[str, str]]:
    """Return what was received in its order, repeats of an id left out."""
    by_id = {each.event["id"]: each.event["data"] for each in received}
    return [(data["reason"], data["by"]) for data in by_id.values()]


def test_killed_between_sending_and_recording(installation: Installation, hub: HubServer) -> None:
    """
    Nothing is lost and the order holds when the controller is killed after the hub has taken an
    event and before that is recorded; the event comes again with the same id.
    """
    killed = threading.Event()

    def kill(received: Received) -> int:
        if received.word == "ready" and not killed.is_set():
            installation.kill()
            killed.set()
        return 204

    hub.behave = kill
    started(installation)
    installation.ok("apply", "-f", "-", stdin=HELLO)
    assert killed.wait(60)
    started(installation)
    installation.ok("delete", "sbx/hello")
    installation.wait_until(
        "the hub knows that it is gone",
        lambda: any(each.word == "deleted" for each in hub.requests),
        timeout_s=60,
    )
    ready = [each for each in hub.requests if each.word == "ready"]

    assert told(hub.of("hello")) == transitions(installation, "hello")
    assert len(ready) >= 2
    assert ready[0].body == ready[1].body


@pytest.mark.exhaustive
def test_expiry_survives_the_controller(installation: Installation, hub: HubServer) -> None:
    """A sandbox expires when its time has come, whether its controller was killed before or after."""
    started(installation)
    installation.ok("create", "--name", "brief", "--profile", "profile.local", "--ttl", "20s")
    installation.kill()
    started(installation)
    installation.wait_until(
        "it was announced and is gone",
        lambda: {"expiring", "deleted"} <= {each.word for each in hub.of("brief")},
        timeout_s=90,
    )
    expired = next(each for each in hub.of("brief") if each.word == "expired")
    words = [each.word for each in hub.of("brief")]

    assert expired.event["data"]["by"] == "expiry"
    assert expired.event["time"] >= expired.event["data"]["expiresAt"]
    assert words.index("expiring") < words.index("expired") < words.index("deleted")
    assert words.count("expiring") == 1
