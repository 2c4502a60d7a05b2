"""What is told of the output of a compose tool."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from sandboxer.extension import Instance
from sandboxer.session import Completed
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from sandboxer_extensions.compose_ssh.remote import printed


@pytest.mark.parametrize("after", [0, 1480, 1499, 5000])
@pytest.mark.parametrize("secret", ["0123456789" * 4, "tab\tinside", "line one\nline two"])
def test_no_part_of_a_secret_is_told(secret: str, after: int) -> None:
    """Wherever the text is cut, and whatever characters are replaced for printing."""
    instance = Instance(
        uid="u", namespace="default", name="hello", environment="env-1",
        extension="ext.compose-ssh", spec_hash="0", inputs=ComposeInputs(image="localhost/a:1"),
        secrets={"TOKEN": SecretStr(secret)},
    )  # fmt: skip
    output = f"-e TOKEN={secret}{'.' * after}".encode()

    told = printed(Completed(exit_status=0, stdout=output, stderr=b"WARN of podman"), instance)

    assert not any(part in told for part in ("6789", "inside", "line two"))
    assert told.endswith("." * min(after, 1400) or "TOKEN=***")
