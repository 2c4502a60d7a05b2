"""What a sandbox runs, as text for `sh`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Inputs, Instance
from sandboxer_extensions.local import launching


def instance(env: Mapping[str, str], **secrets: str) -> Instance:
    return Instance(
        uid="12345678-9abc-4def-8000-000000000000",
        namespace="default",
        name="hello",
        environment="here",
        extension="ext.local",
        spec_hash="abc",
        inputs=Inputs(),
        env=env,
        secrets={name: SecretStr(value) for name, value in secrets.items()},
    )


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")))
def test_no_value_leaves_its_quotes(value: str) -> None:
    """Whatever a value is, the text sets one variable to it and does nothing else."""
    text = launching.launch_text('printf %s. "$X"', instance({"X": value}))

    ran = subprocess.run(["/bin/sh", "-c", text], capture_output=True, check=True, env={})
    assert ran.stdout == value.encode() + b"."


def test_secret_goes_over_a_plain_variable() -> None:
    """A secret with the name of a plain variable wins."""
    text = launching.launch_text('echo "$X"', instance({"X": "plain"}, X="secret"))

    assert subprocess.check_output(["/bin/sh", "-c", text], env={}) == b"secret\n"


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"A=B": "x"}, id="equals"),
        pytest.param({"A;id": "x"}, id="semicolon"),
        pytest.param({"A\n": "x"}, id="newline"),
        pytest.param({"": "x"}, id="empty"),
        pytest.param({"A": "\0"}, id="nul"),
        pytest.param({"A": "\ud800"}, id="surrogate"),
        pytest.param({"A": "x" * 131072}, id="one-too-long"),
        pytest.param({f"A{n}": "x" * 100_000 for n in range(11)}, id="all-too-long"),
    ],
)
def test_impossible_environment_is_refused(env: dict[str, str]) -> None:
    """What no process can be given is an error of the manifest, told before anything runs."""
    with pytest.raises(InvalidSpecError) as error:
        launching.environment_text(instance(env))
    assert error.value.field.startswith("spec.env")


@pytest.mark.parametrize(
    "path", ["", "relative", "/nowhere/at/all", "/etc/passwd", "-a", "/tmp\n", "\0"]
)
def test_impossible_repository_is_refused(path: str) -> None:
    """A repository is an absolute path of a directory that is there."""
    with pytest.raises(InvalidSpecError):
        launching.repository(path)


def test_repository(tmp_path: Path) -> None:
    """A directory is taken as it is named; none is an empty text."""
    assert launching.repository(str(tmp_path)) == str(tmp_path)
    assert launching.repository(None) == ""
