"""`extend-ttl`, `expire` and `sinks` as a person uses them, without a controller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import installed

PAST = "2020-01-01T00:00:00Z"


def manifest(name: str, **lifetime: str) -> dict[str, Any]:
    labels = {"sandboxer.dev/source": "dir-1"} if name == "kept" else {}
    return {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Sandbox",
        "metadata": {"name": name, "labels": labels},
        "spec": {"profile": "profile.local", "lifetime": lifetime},
    }


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Have sandboxes with all kinds of lifetimes; nothing is made for them."""
    documents = [
        manifest("more", ttl="3h"),
        manifest("soon", ttl="30m"),
        manifest("endless"),
        manifest("kept", ttl="5h"),
        manifest("over", expiresAt=PAST),
    ]
    with installed(tmp_path_factory.mktemp("lifetime")) as made:
        made.ok("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
        yield made


def test_more_time_than_it_has(installation: Installation) -> None:
    """The user's own field grows by what is given, and both expiries are shown."""
    said = installation.ok("extend-ttl", "more", "--duration", "9h")

    assert installation.sandboxes()["more"]["spec"]["lifetime"]["ttl"] == "12h"
    assert "sandbox/more expires at " in said
    assert "; was " in said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("endless", "lives until it is deleted", id="no-end"),
        pytest.param("kept", "Change spec.lifetime in its manifest", id="source"),
    ],
)
def test_refused(installation: Installation, name: str, says: str) -> None:
    """What has no end, and what somebody else keeps, is not extended; the message says what to do."""
    done = installation.run("extend-ttl", name, "--duration", "1h")

    assert done.returncode == 1
    assert says in done.stderr


def test_one_end_only(installation: Installation) -> None:
    """A document that names both a ttl and a moment is refused."""
    both = yaml.safe_dump(manifest("both", ttl="1h", expiresAt=PAST))

    done = installation.run("apply", "-f", "-", stdin=both)

    assert done.returncode == 3
    assert "at most one of ttl and expiresAt" in done.stderr


def test_expire(installation: Installation) -> None:
    """`expire` lists what is over or soon is, and deletes only what is over, when told to."""
    listed = installation.ok("expire")
    deleted = installation.ok("expire", "--apply")
    left = installation.sandboxes()

    assert [line.split()[1] for line in listed.splitlines()[1:]] == ["over", "soon"]
    assert f"sandbox/over expired at {PAST}" in deleted
    assert left.keys() == {"more", "soon", "endless", "kept"}


def test_no_sinks(installation: Installation) -> None:
    """Where nobody is told anything the commands say so."""
    assert "nobody is told" in installation.ok("sinks", "list")
    assert "nothing was given up" in installation.ok("sinks", "dead")
    assert installation.run("sinks", "retry", "7").returncode == 4
