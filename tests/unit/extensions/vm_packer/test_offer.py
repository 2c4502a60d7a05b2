"""Which Host a workspace goes to, judged by the Host alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandboxer.kinds.host import Host
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension, ports


@pytest.mark.parametrize(
    ("vm", "spec", "word"),
    [
        pytest.param("build_a", {"sshAlias": "build_a"}, "", id="its alias"),
        pytest.param("build-a", {"sshAlias": "build_a"}, "", id="its name"),
        pytest.param("Build-A", {"address": "box.example"}, "", id="no alias"),
        pytest.param("Build-A", {"sshAlias": "build_a"}, "is the alias build_a", id="another alias"),
    ],
)  # fmt: skip
def test_aliases_that_are_nearly_the_same(vm: str, spec: dict[str, Any], word: str) -> None:
    """Two aliases can make one Host name; the VM of the first is not taken for the second's."""
    extension, inputs = VMPackerExtension(), VMInputs(vm=vm)
    assert extension.host_name(inputs) == "build-a"
    host = Host.parse(
        {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "build-a"}, "spec": spec}
    )  # fmt: skip

    offer = extension.offer(host, inputs)

    assert offer.fits == (not word)
    assert word in offer.reason


@pytest.mark.parametrize(
    ("port", "registry", "words"),
    [
        pytest.param(12221, "ports: {12221: {vm: build_a}}", "", id="registered"),
        pytest.param(
            12222, "ports: {12221: {vm: build_a}}", "12222 is not registered|12221 (build_a)", id="unknown"
        ),
        pytest.param(
            12223, "ports: {12223: {vm: other}}", "registered for other|12223 (other)", id="another-VM"
        ),
        pytest.param(2200, "", "2200 is not registered|Registered ports: none", id="no-registry"),
        pytest.param(12221, "ports: [", "cannot be used|Write it as", id="broken-registry"),
    ],
)  # fmt: skip
def test_tunnel_port_of_a_host_must_be_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, registry: str, words: str
) -> None:
    """A Host somebody wrote by hand is judged as the input is, and the registered ports are named."""
    path = tmp_path / "port-registry.yml"
    path.write_text(registry)
    monkeypatch.setenv(ports.REGISTRY_VARIABLE, str(path))
    host = Host.parse(
        {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "build-a"},
         "spec": {"sshAlias": "build_a", "tunnelPort": port}}
    )  # fmt: skip

    offer = VMPackerExtension().offer(host, VMInputs(vm="build_a"))

    assert offer.fits == (not words)
    assert all(word in offer.reason for word in words.split("|"))
