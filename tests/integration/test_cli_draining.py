"""`cordon`, `uncordon` and `drain`, as a person types them, over Hosts on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import Installation, condition
from tests.integration.cli_lab import HOST_KEY, installed


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    """A controller with two Hosts, `local` and `other`, of which the second takes nothing yet."""
    with installed(tmp_path, "socket") as installation:
        apply_other(installation)
        yield installation


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Installation]:
    """The same Hosts without a controller."""
    with installed(tmp_path) as installation:
        apply_other(installation)
        yield installation


def apply_other(installation: Installation) -> None:
    """Apply a second Host that is this machine, with a work root of its own."""
    work_root = str(installation.directory / "other")
    spec = {"transport": "local", "workRoot": work_root, "unschedulable": True}
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "other"}}
    installation.ok("apply", "-f", "-", stdin=yaml.safe_dump({**head, "spec": spec}))


def create(installation: Installation, name: str, *options: str) -> None:
    """Have a sandbox that is Ready on Host `local`."""
    installation.ok("create", "--profile", "profile.local", "--name", name, *options)
    assert host_of(installation, name) == "local"


def host_of(installation: Installation, name: str) -> str:
    return str(installation.sandboxes()[name]["status"]["host"])


def test_words_of_kubectl(here: Installation) -> None:
    """To say it again is no error; an empty host is only cordoned; an absent one is told as ever."""
    cordoned = here.ok("cordon", "local", "host/local", "other")
    drained = here.ok("drain", "local")
    kept = here.ok("get", "host/local", "-o", "jsonpath={.spec.drain}")
    uncordoned = [here.ok("uncordon", "local") for _ in range(2)]
    absent = here.run("drain", "nowhere")

    assert cordoned == "host/local cordoned\nhost/other already cordoned\n"
    assert drained == "host/local cordoned\nhost/local drained\n"
    assert kept == "Keep"
    assert uncordoned == ["host/local uncordoned\n", "host/local already uncordoned\n"]
    assert absent.returncode == 4


def test_drain(here: Installation) -> None:
    """Refused as long as workspaces would be lost; then what can leaves, and the rest is listed."""
    create(here, "moving")
    create(here, "pinned", "--host", "local")

    refused = here.run("drain", "local")
    rehearsed = here.ok("drain", "local", "--dry-run")
    untouched = here.ok("get", "host/local", "-o", "jsonpath={.spec.unschedulable}")
    here.ok("uncordon", "other")
    drained = here.run("drain", "local", "--discard-workspaces")

    assert refused.returncode == 1
    assert "--discard-workspaces lets them leave" in refused.stderr
    assert "stay: it asks for this host" in rehearsed
    assert untouched == "false"
    assert drained.returncode == 1, drained.stderr
    assert "default/moving moved to other\n" in drained.stdout
    assert "default/pinned stays: Host local was drained by user local" in drained.stdout
    assert "error: 1 of 2 stay on host local" in drained.stderr
    assert host_of(here, "moving") == "other"
    here.ok("wait", "sandbox/pinned", "sandbox/moving", "--for=condition=Ready")
    assert "Host local was drained by user local" in here.ok("explain", "moving")

    here.ok("uncordon", "local")
    here.ok("wait", "sandbox/pinned", "--for=condition=Leaving=False")


@pytest.mark.exhaustive
def test_drain_without_a_controller(alone: Installation) -> None:
    """A command that waits does the moving itself, and looks at the hosts that may take it."""
    create(alone, "moving")
    alone.ok("uncordon", "other")

    said = alone.ok("drain", "local", "--discard-workspaces")

    assert "default/moving moved to other\nhost/local drained\n" in said


def test_giving_up(here: Installation) -> None:
    """Only what does not answer can be given up, and only by who is sure."""
    create(here, "alive")
    spec = {"address": "127.0.0.1", "port": 1, "hostKey": HOST_KEY}
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "dead"}}
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump({**head, "spec": spec}))

    answers = here.run("drain", "local", "--give-up", "--yes")
    rehearsed = [here.run("drain", name, "--give-up", "--dry-run") for name in ("local", "dead")]
    unsure = here.run("drain", "dead", "--give-up")
    sure = here.ok("drain", "dead", "--give-up", "--yes")

    assert answers.returncode == 1
    assert "Host local answers, so it is not given up." in answers.stderr
    assert condition(here.sandboxes()["alive"], "Ready")["status"] == "True"
    assert [done.returncode for done in rehearsed] == [1, 0]
    assert rehearsed[1].stdout == "host/dead given up (dry run)\nNothing is on it.\n"
    assert unsure.returncode == 1
    assert "Say --yes if you are." in unsure.stderr
    assert sure == "host/dead given up\nhost/dead drained\n"
