"""Stores that are lost: what ran goes on running, and `adopt` gives it back its objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandboxer.api.private import served_privately
from sandboxer.client.paths import path_of
from sandboxer.kinds.adoption import Adopted, LostSandbox, LostSandboxes
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.builders import host
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


def lost(environment: str) -> LostSandbox:
    """Return one sandbox that is lost."""
    return LostSandbox(
        uid="u", namespace="default", name="a", environment=environment, extension="ext.local",
        state="Running",
    )  # fmt: skip


def served(found: Sequence[LostSandbox], **problems: str) -> Starlette:
    """Return an API of one host, on which that is lost for an installation with the id `own`."""
    answer = LostSandboxes(environment="own", sandboxes=tuple(found), problems=problems)
    document = host("h1").to_document()
    hosts = {"metadata": {}, "items": [document]}
    nothing: dict[str, object] = {"metadata": {}, "items": []}
    adopted = Adopted(uid="u", adopted=True).to_document()

    def route(path: str, answer: object, method: str = "GET") -> Route:
        async def say(_: Request) -> Response:
            return JSONResponse(answer)

        return Route(path, say, methods=[method])

    return Starlette(
        routes=[
            route(path_of(Host), hosts),
            route(path_of(Sandbox), nothing),
            route(path_of(Host, name="h1"), document),
            route(path_of(Host, name="h1", subresource="lost"), answer.to_document()),
            route(path_of(Host, name="h1", subresource="adopt"), adopted, "POST"),
        ]
    )


async def test_what_could_not_be_looked_at_is_not_called_whole(tmp_path: Path) -> None:
    """What is there is adopted, and the code and the words say that there may be more."""
    here = Installation(tmp_path)
    compose = {"ext.compose-ssh": "The engine does not answer."}
    for found, said in (([], "Nothing lost was seen, but"), ([lost("own")], "a  adopted.")):
        async with served_privately(served(found, **compose), tmp_path) as path:
            server = f"unix://{path}"
            done = await asyncio.to_thread(here.run, "adopt", "--all", SANDBOXER_SERVER=server)

        assert (done.returncode, said in done.stdout) == (9, True), done
        assert "h1: ext.compose-ssh cannot look: The engine does not answer." in done.stderr


async def test_one_host_is_not_all(tmp_path: Path) -> None:
    """Which is the only installation, a look at one host alone does not tell."""
    here = Installation(tmp_path)
    async with served_privately(served([lost("x")]), tmp_path) as path:
        for where, said in ((["--host", "h1"], "Not every host was asked"), (["--all"], "Stop it")):
            done = await asyncio.to_thread(
                here.run, "adopt", *where, "--trust-hosts", SANDBOXER_SERVER=f"unix://{path}"
            )

            assert (done.returncode, said in done.stderr) == (8, True), done


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

        # NOTE: where no container engine answers on this machine, what it has is not known: 9.
        rehearsed = installation.run("adopt", "--all", "--dry-run")
        assert rehearsed.returncode in (1, 9), rehearsed
        assert rehearsed.stdout.count("adopted.") == 3, rehearsed
        done = installation.run("adopt", "--all")
        assert done.returncode in (0, 9), done
        assert done.stdout.count(" adopted.") == 3, done

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
    assert (done.returncode in (0, 9), done.stdout) == (True, "local  default/ours  adopted.\n")

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
    # NOTE: the VM has no container engine, so what containers it has is not known.
    assert done.returncode == 9, done
    person.sandboxer.ok("wait", "sandbox/build", "--for=condition=Ready", "--timeout", "90s")

    adopted = person.document("sandbox", "build")
    assert adopted["metadata"]["uid"] == made["metadata"]["uid"]
    assert adopted["status"]["reachability"] == made["status"]["reachability"]
    left = vm.ssh(f"cat {directory}/mine; grep -c copied {directory}/../.sandboxer/log")
    assert left.stdout.split() == ["mine", "1"]
    vm.ssh("rm -rf /build/sbx-* /build/.sbx-*")
