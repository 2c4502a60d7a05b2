"""Stores that are lost: what ran goes on running, and `adopt` gives it back its objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import installed, local_host, started
from tests.integration.orphan_lab import compose_sandbox, containers
from tests.integration.vm_lab import Person
from tests.rig import Rig
from tests.rig.vm import VM


def document(name: str, **spec: Any) -> str:
    """Return the document of a sandbox on this machine."""
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox"}
    metadata = {"name": name, "labels": {"team": "red"}}
    wanted = {"profile": "profile.local", "placement": {"host": "local"}, **spec}
    return f"---\n{yaml.safe_dump({**head, 'metadata': metadata, 'spec': wanted})}"


def lose_store(installation: Installation, hosts: str) -> None:
    """Remove the store, and nothing else of the data directory; the hosts are applied again."""
    for path in (installation.directory / "data").glob("store.db*"):
        path.unlink()
    installation.ok("apply", "-f", "-", stdin=hosts)


def processes(work_root: Path) -> dict[str, tuple[int, int]]:
    """Return pid and start time of every sandbox's process, by the name of its workspace."""
    found = {
        path.name: json.loads(path.read_text()) for path in (work_root / ".processes").iterdir()
    }
    return {name: (record["pid"], record["start"]) for name, record in found.items()}


def identities(installation: Installation) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Return uid, creation and labels of each sandbox."""
    found = {name: each["metadata"] for name, each in installation.sandboxes().items()}
    return {
        name: (metadata["uid"], metadata["creationTimestamp"], metadata["labels"])
        for name, metadata in found.items()
    }


@pytest.fixture
def installations(tmp_path: Path) -> Iterator[tuple[Installation, Installation]]:
    """Two installations that use the same directory of the same machine."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with installed(tmp_path / "one") as one, installed(tmp_path / "two") as two:
        two.ok("apply", "-f", "-", stdin=local_host(tmp_path / "one/work"))
        yield one, two


@pytest.mark.timeout(300)
def test_everything_is_back_after_the_store_was_lost(tmp_path: Path) -> None:
    """Names, uids and processes are what they were; a secret is read again; a lifetime goes on."""
    work_root = tmp_path / "work"
    (tmp_path / "secret").write_text("s3cret\n")
    secret = {"name": "TOKEN", "fromFile": str(tmp_path / "secret")}
    documents = [
        document("plain"),
        document("secret", secretRefs=[secret]),
        document("mortal", lifetime={"ttl": "30m"}),
    ]
    with installed(tmp_path) as installation:
        installation.ok("apply", "--wait", "--timeout", "60s", "-f", "-", stdin="".join(documents))
        before, running = identities(installation), processes(work_root)
        lose_store(installation, local_host(work_root))

        rehearsed = installation.run("adopt", "--all", "--dry-run")
        assert (rehearsed.returncode, rehearsed.stdout.count("adopted.")) == (1, 3), rehearsed
        done = installation.run("adopt", "--all")
        assert (done.returncode, done.stdout.count(" adopted.")) == (0, 3), done

        names = [f"sandbox/{name}" for name in before]
        installation.ok("wait", *names, "--for=condition=Ready", "--timeout", "60s")
        assert identities(installation) == before
        assert processes(work_root) == running
        status = installation.sandboxes()["plain"]["status"]
        assert status["reachability"]["remoteDir"].endswith("/work")
        assert status["isolation"]["detail"]
        told = installation.ok("exec", "secret", "--", "sh", "-c", 'echo "$TOKEN"')
        assert told == "s3cret\n"
        assert "was given an hour" in installation.ok("explain", "mortal")


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_a_person_says_which_installation_was_lost(
    installations: tuple[Installation, Installation],
) -> None:
    """Without the key none of two is taken by accident, with it the right one, by no controller."""
    here, other = installations
    work_root = here.directory / "work"
    for installation, name in ((here, "ours"), (other, "theirs")):
        installation.ok("apply", "--wait", "--timeout", "60s", "-f", "-", stdin=document(name))
    running = processes(work_root)
    lose_store(here, local_host(work_root))

    key = here.directory / "data/manifest.key"
    key.rename(here.directory / "key")
    unclear = here.run("adopt", "--all", "--trust-hosts")
    assert (unclear.returncode, "--environment" in unclear.stderr) == (8, True), unclear
    rows = [line.split() for line in unclear.stdout.splitlines()[1:]]
    assert [row[1:4] for row in rows] == [["1", "local", "no"], ["1", "local", "no"]]
    (here.directory / "key").rename(key)
    started(here)
    refused = here.run("adopt", "--all")
    assert (refused.returncode, "Stop it" in refused.stderr) == (8, True), refused
    here.kill()
    done = here.run("adopt", "--all")
    assert (done.returncode, done.stdout) == (0, "local  default/ours  adopted.\n"), done

    assert list(here.sandboxes()) == ["ours"]
    assert list(other.sandboxes()) == ["theirs"]
    assert processes(work_root) == running


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_containers_are_adopted_as_they_run(tmp_path: Path, rig: Rig) -> None:
    """The containers of a lost sandbox are the same afterwards, and so is the port it publishes."""
    rig.clean("h1")
    installation = Installation(tmp_path)
    hosts = yaml.safe_dump(rig.hosts["h1"].manifest(probeInterval="1s"))
    sandbox = json.loads(compose_sandbox(rig, "web", "h1"))
    sandbox["spec"]["ports"] = [{"name": "web", "containerPort": 8080}]
    manifests = f"{hosts}---\n{json.dumps(sandbox)}"
    installation.ok("apply", "--wait", "--timeout", "90s", "-f", "-", stdin=manifests)
    before, running = installation.sandboxes()["web"], containers(rig, "h1")
    lose_store(installation, hosts)

    done = installation.run("adopt", "--host", "h1")
    assert done.returncode == 0, done
    installation.ok("wait", "sandbox/web", "--for=condition=Ready", "--timeout", "60s")

    after = installation.sandboxes()["web"]
    assert containers(rig, "h1") == running
    for field in ("reachability", "ports", "specHash", "handle", "isolation"):
        assert after["status"][field] == before["status"][field]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    rig.clean("h1")


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
def test_a_workspace_on_a_vm_is_adopted(
    tmp_path: Path, vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written in a workspace is there still, and the repository is not copied again."""
    person = Person(tmp_path, vm, monkeypatch)
    made = person.made("build", "vm=haskell_build", f"repo={person.repo}")
    directory = made["status"]["reachability"]["remoteDir"]
    vm.ssh(f"echo mine >{directory}/mine")
    host = person.document("host", made["status"]["host"])
    kept = {key: host[key] for key in ("apiVersion", "kind", "spec")}
    document = yaml.safe_dump({**kept, "metadata": {"name": host["metadata"]["name"]}})
    lose_store(person.sandboxer, document)

    done = person.sandboxer.run("adopt", "--host", host["metadata"]["name"])
    assert done.returncode == 0, done
    person.sandboxer.ok("wait", "sandbox/build", "--for=condition=Ready", "--timeout", "90s")

    adopted = person.document("sandbox", "build")
    assert adopted["metadata"]["uid"] == made["metadata"]["uid"]
    assert adopted["status"]["reachability"] == made["status"]["reachability"]
    left = vm.ssh(f"cat {directory}/mine; grep -c copied {directory}/../.sandboxer/log")
    assert left.stdout.split() == ["mine", "1"]
    vm.ssh("rm -rf /build/sbx-* /build/.sbx-*")
