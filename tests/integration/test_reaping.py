"""Real orphans of real backends: listed, reaped when asked for, and by the controller alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import installed, local_host
from tests.integration.orphan_lab import (
    compose_sandbox,
    containers,
    orphan,
    short_id,
    stale,
    workspaces,
)
from tests.rig import Rig


def local_sandbox(name: str) -> str:
    """Return the document of a sandbox on this machine."""
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": name}}
    spec = {"profile": "profile.local", "placement": {"host": "local"}}
    return f"---\n{yaml.safe_dump({**head, 'spec': spec})}"


@pytest.fixture
def installations(tmp_path: Path) -> Iterator[tuple[Installation, Installation]]:
    """Two installations that use the same directory of the same machine."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with installed(tmp_path / "one") as one, installed(tmp_path / "two") as two:
        yield one, two


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
def test_local_orphans_are_listed_and_reaped(
    installations: tuple[Installation, Installation],
) -> None:
    """A person sees, rehearses and reaps; the controller does it alone; nothing else goes."""
    here, other = installations
    root = here.directory / "work"
    documents = local_host(root) + "".join(map(local_sandbox, ("lost", "late", "kept")))
    here.ok("apply", "--wait", "-f", "-", stdin=documents)
    other.ok("apply", "--wait", "-f", "-", stdin=local_host(root) + local_sandbox("theirs"))
    (root / "sbx-0123456789ab").mkdir()
    before = workspaces(root)
    orphan(here, "lost")
    late = short_id(here, "late")

    assert {name: each["stale"] for name, each in stale(here).items()} == {"lost": "NoSandbox"}
    rehearsed = here.run("reap-stale")
    assert (rehearsed.returncode, "default/lost" in rehearsed.stdout) == (1, True)
    assert workspaces(root) == before
    reaped = here.run("reap-stale", "--host", "local", "--apply")
    assert (reaped.returncode, "removed" in reaped.stdout) == (0, True), reaped.stderr
    after = workspaces(root)
    assert len(before - after) == 1

    orphan(here, "late")
    here.start("--listen", "none", "--orphan-grace", "3s")
    here.wait_until("the other is gone", lambda: workspaces(root) == after - {late}, timeout_s=90)
    events = yaml.safe_load(here.ok("get", "events", "-o", "yaml"))["items"]
    told = {e["message"].partition(" (")[0] for e in events if e["reason"] == "OrphanReaped"}
    assert {each.rpartition("/")[2] for each in told} == {"lost", "late"}
    other.ok("exec", "theirs", "--", "true")
    (root / "sbx-0123456789ab").rmdir()


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
def test_compose_orphans_are_reaped(tmp_path: Path, rig: Rig) -> None:
    """Containers, volumes and networks of an orphan go; a user's own container stays."""
    rig.clean("h1")
    installation = Installation(tmp_path)
    manifest = rig.hosts["h1"].manifest(probeInterval="1s")
    installation.ok("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    installation.ok("apply", "--wait", "-f", "-", stdin=compose_sandbox(rig, "lost", "h1"))
    lost = containers(rig, "h1")
    mine = rig.ssh("h1", f"podman run -d --name mine {rig.image} sleep 100000").stdout.strip()
    assert lost
    orphan(installation, "lost")
    assert set(stale(installation)) == {"lost"}

    installation.start("--listen", "none", "--orphan-grace", "3s")

    def reaped() -> bool:
        return containers(rig, "h1") == {mine}

    installation.wait_until("the orphan is gone", reaped, timeout_s=60)
    left = rig.ssh("h1", "podman volume ls -q; podman network ls -q | grep -vx podman; ls /build")
    assert left.stdout == ""
    installation.kill()
    rig.clean("h1")
