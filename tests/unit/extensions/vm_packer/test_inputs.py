"""What `ext.vm-packer` takes as inputs, and which Host they name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        pytest.param({"vm": "haskell-build"}, "haskell-build", id="name"),
        pytest.param({"ssh_target": "Haskell_Build"}, "haskell-build", id="alias in another form"),
        pytest.param({"vm": "a", "ssh_target": "a"}, "a", id="both"),
    ],
)
def test_host_name(inputs: dict[str, str], name: str) -> None:
    """The VM is the Host of that name, in the form Kubernetes demands."""
    assert VMPackerExtension().host_name(VMInputs.model_validate(inputs)) == name


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({}, id="no vm"),
        pytest.param({"vm": "a", "ssh_target": "b"}, id="two VMs"),
        pytest.param({"vm": "-oProxyCommand=id"}, id="option"),
        pytest.param({"vm": "a\nb"}, id="newline in vm"),
        pytest.param({"vm": "user@host"}, id="user"),
        pytest.param({"vm": "a", "repo": "/a\n/b"}, id="newline in repo"),
        pytest.param({"vm": "a", "repo": "relative"}, id="relative repo"),
        pytest.param({"vm": "a", "workspace_dir": "/etc"}, id="outside of the root"),
        pytest.param({"vm": "a", "workspace_dir": "/build"}, id="the root itself"),
        pytest.param({"vm": "a", "workspace_dir": "/build/../etc"}, id="dots"),
        pytest.param({"vm": "a", "workspace_dir": "/build//a"}, id="empty part"),
        pytest.param({"vm": "a", "workspace_dir": "/build/a/"}, id="slash at the end"),
        pytest.param({"vm": "a", "workspace_dir": "/build/.sbx-new-1"}, id="hidden"),
        pytest.param({"vm": "a", "workspace_dir": "/build/sbx-0123"}, id="a name of ours"),
        pytest.param({"vm": "a", "root": "/"}, id="no root"),
        pytest.param({"vm": "a", "root": "/etc/x"}, id="system directory"),
        pytest.param({"vm": "a", "root": "/$(id)"}, id="shell"),
        pytest.param({"vm": "a", "tunnel_port": "12221"}, id="text for a number"),
        pytest.param({"vm": "a", "typo": "b"}, id="unknown"),
    ],
)
def test_refused(inputs: dict[str, object]) -> None:
    """What could lead elsewhere does not pass."""
    with pytest.raises(ValidationError):
        VMInputs.model_validate(inputs)


def test_workspace_of_its_own_name() -> None:
    """Another root and another name below it are taken."""
    inputs = VMInputs(vm="a", root="/srv/ci", workspace_dir="/srv/ci/project-1.0")

    assert inputs.workspace_dir == "/srv/ci/project-1.0"
