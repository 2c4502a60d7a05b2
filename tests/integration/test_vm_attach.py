"""A workspace on a real VM, by the command line: direct, through a tunnel, killed in the middle."""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import is_ready
from tests.integration.loopback_sshd import LoopbackSSHD
from tests.integration.vm_lab import Person
from tests.kubectl.session import Kubectl
from tests.rig.kubectl import kubectl_program
from tests.rig.vm import VM

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def person(tmp_path: Path, vm: VM, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """Somebody with an alias for the VM; their workspaces are gone afterwards."""
    made = Person(tmp_path, vm, monkeypatch)
    yield made
    made.sandboxer.kill()
    vm.ssh("rm -rf /build/sbx-* /build/.sbx-*")


@pytest.mark.timeout(180)
def test_life_of_a_workspace(person: Person) -> None:
    """Attach by alias, run, copy again, see it, destroy: the VM stays, nothing of the sandbox does."""
    sandboxer, vm = person.sandboxer, person.vm
    sandboxer.start()

    document = person.made("hello", "vm=haskell_build", f"repo={person.repo}")

    # The Host was made from the alias, and its key comes from the person's known_hosts.
    host = person.document("host", "haskell-build")
    assert host["spec"]["sshAlias"] == "haskell_build"
    assert host["status"]["hostKey"] == vm.host_key
    way = document["status"]["reachability"]
    assert (way["sshTarget"], way["sshPort"]) == (f"root@127.0.0.1:{vm.port}", vm.port)
    directory = way["remoteDir"]
    assert directory.startswith("/build/sbx-")
    assert directory.endswith("/work")
    listed = vm.ssh(f"cd {directory} && ls -A").stdout.split()
    assert listed == [".gitignore", "Main.hs", "Old.hs"], "what .gitignore names is not copied"

    printed = sandboxer.run("exec", "hello", "--", "sh", "-c", "pwd; mkdir dist-newstyle; exit 3")
    assert (printed.returncode, printed.stdout.strip()) == (3, directory)
    logs = sandboxer.ok("logs", "hello")
    assert f"copied {person.repo} in" in logs
    assert "(100 %, " in logs, "the progress of the copy was read"
    assert directory in logs, "what exec printed is in the log"

    # A second copy removes what is gone, and keeps what was built there.
    (person.repo / "Old.hs").unlink()
    (person.repo / "New.hs").write_text("module New where\n")
    del document["status"]
    document["metadata"] = {"name": "hello"}
    document["spec"]["inputs"]["sync"] = "2"
    sandboxer.ok("apply", "-f", "-", stdin=yaml.safe_dump(document))
    sandboxer.ok("wait", "sandbox/hello", "--for=condition=Ready", "--timeout", "60s")
    sandboxer.wait_until(
        "the second copy",
        lambda: "New.hs" in vm.ssh(f"ls {directory}").stdout and is_ready(person.document("sandbox", "hello")),
        timeout_s=30,
    )  # fmt: skip
    assert vm.ssh(f"ls {directory}").stdout.split() == ["Main.hs", "New.hs", "dist-newstyle"]

    shown = sandboxer.ok("reachability", "show", "hello")
    assert f"root@127.0.0.1:{vm.port}" in shown
    assert directory in shown
    refused = sandboxer.run("reachability", "show", "hello", "--emit", "ops-bridge")
    assert refused.returncode != 0
    assert "directly" in refused.stderr

    # One process that keeps the mark and leaves, one that drops the mark and stays: both go.
    stays = "cd / && setsid sleep 1111 >/dev/null 2>&1 </dev/null & exec env -i sleep 2222 >/dev/null 2>&1 </dev/null &"
    sandboxer.ok("exec", "hello", "--", "sh", "-c", stays)
    bystander = vm.ssh("sleep 3333 >/dev/null 2>&1 </dev/null & echo $!").stdout.strip()
    assert vm.ssh("ps | grep -c '[s]leep [12][12][12][12]'").stdout.strip() == "2"
    sandboxer.ok("destroy", "hello")
    assert vm.ssh("ps | grep '[s]leep [12][12][12][12]'").stdout == ""
    assert vm.ssh(f"kill {bystander}").returncode == 0, "what is not the sandbox's lives on"
    assert vm.ssh("ls -A /build").stdout == ""
    assert person.document("host", "haskell-build")["metadata"]["name"] == "haskell-build"


@pytest.mark.timeout(120)
def test_files_are_copied(person: Person, tmp_path: Path) -> None:
    """What is wanted beside the repository goes there and comes back, by `kubectl cp` and `cp`."""
    sandboxer = person.sandboxer
    sandboxer.start("--listen", "127.0.0.1:0")
    directory = person.made("files", "vm=haskell_build")["status"]["reachability"]["remoteDir"]
    kubeconfig = sandboxer.directory / "data" / "kubeconfig"
    kubectl = Kubectl(kubectl_program(), tmp_path / "kubectl", kubeconfig, "default")
    (kubectl.home / "there/deep").mkdir(parents=True)
    (kubectl.home / "there/deep/a file").write_bytes(bytes(range(256)) * 500)

    kubectl.ok("cp", str(kubectl.home / "there"), f"files:{directory}/copied")
    kubectl.ok("cp", f"files:{directory}/copied", str(kubectl.home / "back"))

    assert (kubectl.home / "back/deep/a file").read_bytes() == bytes(range(256)) * 500
    assert person.vm.ssh(f"ls {directory}").stdout.split() == ["copied"]
    sandboxer.ok("cp", str(kubectl.home / "there"), "files:mine")
    sandboxer.ok("cp", "files:mine", str(kubectl.home / "again"))
    assert (kubectl.home / "again/deep/a file").read_bytes() == bytes(range(256)) * 500
    log = sandboxer.ok("logs", "files")
    assert "exec tar" in log
    assert "\0" not in log, "what is copied is not logged"
    assert sandboxer.ok("ssh", "files", "--", "pwd").strip() == directory
    sandboxer.ok("destroy", "files")


@pytest.mark.timeout(120)
def test_example(person: Person) -> None:
    """The example's project is built on the VM, as its README says."""
    sandboxer, example = person.sandboxer, CHECKOUT / "examples" / "05-vm-attach"
    manifest = (example / "sandbox.yaml").read_text()
    manifest = manifest.replace("/path/to/examples/05-vm-attach", str(example))

    sandboxer.ok("apply", "-f", "-", stdin=manifest)
    sandboxer.ok("wait", "sandbox/workspace", "--for=condition=Ready", "--timeout", "60s")

    assert sandboxer.ok("exec", "workspace", "--", "sh", "build.sh") == "hello from Linux\n"
    sandboxer.ok("delete", "sandbox", "workspace")
    assert person.vm.ssh("ls -A /build").stdout == ""


@pytest.mark.timeout(180)
def test_through_a_reverse_tunnel(person: Person, tmp_path: Path) -> None:
    """A VM that published its sshd here is reached by its registered port, and only by that."""
    sandboxer, vm = person.sandboxer, person.vm
    (tmp_path / "sshd").mkdir()
    server = LoopbackSSHD(tmp_path / "sshd")
    with (tmp_path / "sshd" / "authorized_keys").open("a") as keys:
        keys.write(f"restrict,port-forwarding {vm.tunnel_public_key()}\n")
    server.start()
    # The alias leads nowhere by itself: only the tunnel does.
    config = person.home / ".ssh/config"
    config.write_text(config.read_text().replace(f"Port {vm.port}", "Port 9"))
    person.register_port(12225, "haskell_build")
    try:
        with vm.reverse_tunnel(server.port, getpass.getuser(), server.host_key, 12225):
            refused = person.create("wrong", "vm=haskell_build", "tunnel_port=12226")
            document = person.made("tunnelled", "vm=haskell_build", f"repo={person.repo}")
            printed = sandboxer.ok("exec", "tunnelled", "--", "hostname")
            emitted = yaml.safe_load(
                sandboxer.ok("reachability", "show", "tunnelled", "--emit", "ops-bridge")
            )
            sandboxer.ok("destroy", "tunnelled")
    finally:
        server.stop()

    assert refused.returncode != 0
    assert "12225 (haskell_build)" in refused.stderr, "the registered ports are named"
    assert printed == "sandboxer-vm\n"
    tunnel = document["status"]["reachability"]["tunnel"]
    assert (tunnel["localPort"], tunnel["owner"]) == (12225, "ops-bridge")
    assert emitted["tunnels"][0]["bind"] == "127.0.0.1:12225"
    assert person.document("host", "haskell-build")["spec"]["tunnelPort"] == 12225


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
def test_controller_killed_during_the_copy(person: Person) -> None:
    """The next controller goes on with the copy, and what arrived is what was sent."""
    sandboxer, vm = person.sandboxer, person.vm
    big = person.repo / "big"
    with big.open("wb") as file, Path("/dev/urandom").open("rb") as random:
        for _ in range(24):
            file.write(random.read(2**20))
    sandboxer.start()
    sandboxer.wait_until(
        "the controller answers",
        lambda: sandboxer.run("get", "hosts").returncode == 0,
        timeout_s=30,
    )
    inputs = ["--input", "vm=haskell_build", "--input", f"repo={person.repo}"]
    sandboxer.ok("create", "--name", "big", "--profile", "profile.build", *inputs, "--no-wait")

    # Killed while rsync writes: the temporary file of the copy is there, the file is not.
    sandboxer.wait_until(
        "the copy has begun",
        lambda: bool(vm.ssh("ls /build/sbx-*/work/.big.*").stdout),
        timeout_s=60,
    )
    sandboxer.kill()
    assert not vm.ssh("ls /build/sbx-*/work/big").stdout, "too late: the copy was done already"
    sandboxer.wait_until(
        "the half is kept",
        lambda: vm.ssh("ls /build/sbx-*/work/.sandboxer-partial/big").returncode == 0,
        timeout_s=30,
    )
    sandboxer.start()
    # One command that waits: many that ask would take the processor from the VM.
    sandboxer.ok("wait", "sandbox/big", "--for=condition=Ready", "--timeout", "120s")

    arrived = vm.ssh("cd /build/sbx-*/work && md5sum big && ls -A", timeout_s=60).stdout.split()
    sent = _md5(big)
    assert arrived[0] == sent
    assert sorted(arrived[2:]) == [".gitignore", "Main.hs", "Old.hs", "big"]
    sandboxer.ok("destroy", "big")
    assert vm.ssh("ls -A /build").stdout == ""


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.timeout(120)
def test_hostile_inputs_are_refused_or_inert(person: Person) -> None:
    """No input becomes an option, a path elsewhere or a second line."""
    proof = person.home / "proof"
    # One of each way; the forms are in tests/unit/extensions/vm_packer/test_inputs.py.
    hostile = {
        f"vm=-oProxyCommand=touch {proof}": "spec.inputs.vm",
        "vm=nobody": "no alias",
        "workspace_dir=/etc": "workspace_dir",
        "repo=/tmp\n/etc": "repo",
        "tunnel_port=2200": "Registered ports: none",
    }

    for number, (text, word) in enumerate(hostile.items()):
        given = [text] if text.startswith("vm=") else ["vm=haskell_build", text]
        done = person.create(f"hostile-{number}", *given)
        assert done.returncode != 0, (text, done.stdout)
        assert word in done.stderr, (text, done.stderr)
        assert "an error in sandboxer itself" not in done.stderr

    assert not proof.exists()
    assert person.vm.ssh("ls -A /build").stdout == ""
    hosts = yaml.safe_load(person.sandboxer.ok("get", "hosts", "-o", "yaml"))
    assert "nobody" not in str(hosts), "a slip of the pen makes no Host"
