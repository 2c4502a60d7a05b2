"""An installation of sandboxer that builds images with a real Packer in a directory of the test's."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.installation import Installation, condition
from tests.rig import packer

PROFILE = "profile.vm-packer-build"


class Builder:
    """
    Somebody who builds images.

    Attributes:
        template: A template with one file builder; tests write their own over it.
        work_root: Of this machine as a Host.
        proof: What a hostile input would make.
    """

    def __init__(self, directory: Path) -> None:
        packer.install()
        self.directory = directory
        self.template = packer.file_template(directory / "template")
        self.work_root = directory / "root"
        self.proof = directory / "proof"
        self._socket = directory / "installation/data/sandboxer.sock"
        (directory / "installation").mkdir()
        self.sandboxer = Installation(directory / "installation")
        self.sandboxer.set_environment(HOME=str(directory))
        self.use_host({"name": "local"}, {"transport": "local", "workRoot": str(self.work_root)})

    def use_host(self, metadata: dict[str, Any], spec: dict[str, Any]) -> None:
        """Write a Host into the directory the controller watches."""
        host = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host"}
        document = host | {"metadata": metadata, "spec": spec}
        path = self.sandboxer.specs / f"{metadata['name']}.yaml"
        path.write_text(yaml.safe_dump(document))

    def start(self) -> None:
        """Start a controller, and return once it answers and its Hosts are there."""
        self.sandboxer.start()
        self.sandboxer.wait_until("the controller has its hosts", self._knows_hosts, timeout_s=60)

    def apply(
        self,
        name: str,
        *,
        secrets: tuple[dict[str, str], ...] = (),
        host: str = "local",
        **inputs: Any,
    ) -> None:
        """Apply a Sandbox that builds the template."""
        document = {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Sandbox",
            "metadata": {"name": name},
            "spec": {
                "profile": PROFILE,
                "inputs": {"packer_template": str(self.template)} | inputs,
                "secretRefs": list(secrets),
                "placement": {"host": host},
            },
        }
        self.sandboxer.ok("apply", "-f", "-", stdin=yaml.safe_dump(document))

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of a Sandbox."""
        found: dict[str, Any] = self._ask(f"namespaces/default/sandboxes/{name}").get("status", {})
        return found

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """Return a condition of a Sandbox, empty when it was never stated."""
        return condition({"status": self.status(name)}, type_)

    def wait(self, name: str, type_: str, reason: str = "", *, timeout_s: float = 60) -> str:
        """Wait until a condition is true, or has that reason, and return its message."""

        def holds() -> bool:
            found = self.condition(name, type_)
            return found.get("reason") == reason if reason else found.get("status") == "True"

        self.sandboxer.wait_until(f"{type_} {reason} of {name}", holds, timeout_s=timeout_s)
        return str(self.condition(name, type_)["message"])

    def artifacts(self, name: str) -> list[dict[str, Any]]:
        """Return what the status says was made."""
        return [r for r in self.status(name).get("resources", []) if r["kind"] == "artifact"]

    def uid(self, name: str) -> str:
        """Return the uid of a Sandbox."""
        return str(self._ask(f"namespaces/default/sandboxes/{name}")["metadata"]["uid"])

    def builds(self) -> list[str]:
        """Return the names in the directory of the builds."""
        builds = self.work_root / "builds"
        return sorted(path.name for path in builds.iterdir()) if builds.exists() else []

    def _knows_hosts(self) -> bool:
        # NOTE: httpx leaves a socket open that cannot be connected (0.28), and warnings are errors.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self._socket)):
                return False
        hosts = self._ask("hosts")["items"]
        return any(host["spec"].get("workRoot") == str(self.work_root) for host in hosts)

    def _ask(self, path: str) -> dict[str, Any]:
        """Ask the API without a process of its own, which takes a second on a busy machine."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._socket))) as client:
            url = f"http://localhost/apis/sandboxer.dev/v1alpha1/{path}"
            answer: dict[str, Any] = client.get(url).raise_for_status().json()
        return answer
