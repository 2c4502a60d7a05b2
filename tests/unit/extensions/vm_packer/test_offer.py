"""Which Host a workspace goes to, judged by the Host alone."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxer.kinds.host import Host
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension


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
