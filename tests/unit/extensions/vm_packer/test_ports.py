"""The port registry of VMs' reverse tunnels."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxer.errors import InvalidSpecError
from sandboxer_extensions.vm_packer import ports

REGISTRY = "ports:\n  12221: {vm: haskell-build, owner: ops-bridge}\n  12223: {vm: android}\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that is told where the registry is."""
    path = tmp_path / "port-registry.yml"
    path.write_text(REGISTRY)
    return {ports.REGISTRY_VARIABLE: str(path)}


@pytest.mark.parametrize(
    ("vm", "wished", "variable", "expected"),
    [
        pytest.param("haskell-build", 12221, "", 12221, id="input"),
        pytest.param("haskell-build", None, "12221", 12221, id="variable"),
        pytest.param("android", 12223, "12221", 12223, id="input over variable"),
        pytest.param("android", None, "", 12223, id="registry"),
        pytest.param("other", None, "", None, id="direct"),
    ],
)
def test_order_of_what_counts(
    environ: dict[str, str], vm: str, wished: int | None, variable: str, expected: int | None
) -> None:
    """Input, then variable, then registry; without any the VM is reached directly."""
    environ[ports.PORT_VARIABLE] = variable

    assert ports.tunnel_port(vm, wished, environ) == expected


@pytest.mark.parametrize(
    ("vm", "wished", "variable"),
    [
        pytest.param("haskell-build", 12222, "", id="unregistered"),
        pytest.param("haskell-build", 12223, "", id="another VM's"),
        pytest.param("other", None, "12221", id="variable for another VM"),
        pytest.param("haskell-build", None, "12221;id", id="no number"),
        pytest.param("haskell-build", None, "9" * 5000, id="endless"),
        pytest.param("haskell-build", 22, "", id="out of range"),
    ],
)
def test_wrong_ports_are_refused_with_the_right_ones(
    environ: dict[str, str], vm: str, wished: int | None, variable: str
) -> None:
    """What is not this VM's registered port is refused, and what is registered is listed."""
    environ[ports.PORT_VARIABLE] = variable

    with pytest.raises(InvalidSpecError, match=r"12221 \(haskell-build\), 12223 \(android\)"):
        ports.tunnel_port(vm, wished, environ)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ports: {22: {vm: a}}", id="outside of the range"),
        pytest.param("ports: {12221: {vm: -oProxyCommand=id}}", id="no alias"),
        pytest.param("ports: [1", id="no YAML"),
        pytest.param("[" * 5000, id="deep"),
        pytest.param("- 1", id="list"),
        pytest.param(f"# {'x' * ports.MAX_BYTES}\nports: {{}}", id="large"),
        pytest.param("!!bool zz", id="bad tag"),
    ],
)
def test_registry_that_cannot_be_used(environ: dict[str, str], text: str) -> None:
    """A broken registry is an error that names the file, and never an empty one."""
    path = Path(environ[ports.REGISTRY_VARIABLE])
    path.write_text(text)

    with pytest.raises(InvalidSpecError, match=str(path)):
        ports.tunnel_port("haskell-build", None, environ)


def test_missing_registry_registers_nothing(tmp_path: Path) -> None:
    """Without a file there is no tunnel, and every port is refused."""
    environ = {ports.REGISTRY_VARIABLE: str(tmp_path / "none.yml")}

    assert ports.tunnel_port("haskell-build", None, environ) is None
    with pytest.raises(InvalidSpecError, match="Registered ports: none"):
        ports.tunnel_port("haskell-build", 12221, environ)
