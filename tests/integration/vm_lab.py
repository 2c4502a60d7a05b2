"""A person with an SSH configuration, an installation of sandboxer, and a VM to attach to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import Installation
from tests.rig.vm import VM


class Person:
    """
    A home directory with what somebody who uses VMs has there, and `sandboxer` run from it.

    Attributes:
        repo: A small project: a file, a build product that .gitignore names, and a .gitignore.
    """

    def __init__(self, home: Path, vm: VM, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.vm = vm
        self.repo = home / "project"
        monkeypatch.setenv("HOME", str(home))
        # A command that reconciles by itself must not be sent elsewhere by the developer's settings.
        for name in ("SANDBOXER_HOST", "SANDBOXER_VM_TUNNEL_PORT", "SANDBOXER_PORT_REGISTRY"):
            monkeypatch.delenv(name, raising=False)
        self._write_ssh(vm)
        self._write_repo()
        (home / "installation").mkdir()
        self.sandboxer = Installation(home / "installation")

    def create(self, name: str, *inputs: str, profile: str = "profile.vm-haskell-build") -> Any:
        """Run `sandboxer create` with these inputs; the result has returncode, stdout, stderr."""
        options = [word for text in inputs for word in ("--input", text)]
        return self.sandboxer.run(
            "create", "--name", name, "--profile", profile, *options, "--timeout", "60s"
        )

    def made(self, name: str, *inputs: str) -> dict[str, Any]:
        """Create a sandbox, which must work, and return its document."""
        done = self.create(name, *inputs)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.document("sandbox", name)

    def document(self, kind: str, name: str) -> dict[str, Any]:
        """Return a document of the store."""
        found: dict[str, Any] = json.loads(self.sandboxer.ok("get", kind, name, "-o", "json"))
        return found

    def register_port(self, port: int, vm: str) -> None:
        """Write the port registry with one entry."""
        path = self.home / ".config/sandboxer/port-registry.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"ports:\n  {port}: {{vm: {vm}, owner: ops-bridge}}\n")

    def _write_ssh(self, vm: VM) -> None:
        directory = self.home / ".ssh"
        directory.mkdir(mode=0o700)
        shutil.copy(vm.identity_file, directory / "vm_key")
        (directory / "vm_key").chmod(0o600)
        (directory / "known_hosts").write_text(f"haskell-vm {vm.host_key}\n")
        (directory / "config").write_text(
            "Host haskell_build haskell-build\n"
            f"  HostName 127.0.0.1\n  Port {vm.port}\n  User root\n"
            "  IdentityFile ~/.ssh/vm_key\n  HostKeyAlias haskell-vm\n"
            # ssh(1) takes the home of the account for `~`, whatever HOME says.
            f"  IdentityFile {directory}/vm_key\n"
            "Host *\n  IdentitiesOnly yes\n"
        )

    def _write_repo(self) -> None:
        self.repo.mkdir()
        (self.repo / ".gitignore").write_text("dist-newstyle\n")
        (self.repo / "Main.hs").write_text("main = pure ()\n")
        (self.repo / "Old.hs").write_text("module Old where\n")
        (self.repo / "dist-newstyle").mkdir()
        (self.repo / "dist-newstyle" / "local").write_text("built here\n")
