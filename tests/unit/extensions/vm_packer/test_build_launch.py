"""What a build is started with: nothing of a secret outside of its environment."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Instance
from sandboxer_extensions.vm_packer import VMInputs, build_launch

# Characters that mean something to sed, to Packer's form or to a shell, and others.
SECRETS = st.text(st.sampled_from("ab/.*[]^$\\&,\n'\"%!() \té"), min_size=4, max_size=30)


def instance(**secrets: str) -> Instance:
    """Return a build with these secrets."""
    return Instance(
        uid="0f0e0d0c-0b0a-4908-8706-050403020100", namespace="default", name="image",
        environment="here", extension="ext.vm-packer", spec_hash="0123456789abcdef",
        inputs=VMInputs.model_validate({"mode": "build", "packer_template": "/srv/template"}),
        secrets={name: SecretStr(value) for name, value in secrets.items()},
    )  # fmt: skip


def launch(build: Instance) -> str:
    """Return what `sh` evaluates before it becomes Packer."""
    assert isinstance(build.inputs, VMInputs)
    return build_launch.launch_text(build, build.inputs).decode()


def mask(text: str, *secrets: str) -> str:
    """Return *text* as the filter of a build leaves it."""
    script = build_launch.mask_script({f"S{n}": SecretStr(s) for n, s in enumerate(secrets)})
    done = subprocess.run(
        ["sed", "-u", "".join(script)], input=text.encode(), capture_output=True, check=True,
        env={"LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout.decode()


# Each example starts a few processes, which takes long on a busy machine.
@settings(deadline=None)
@given(SECRETS)
def test_no_line_of_a_secret_passes_the_mask(secret: str) -> None:
    """Printed whole, by lines, in Packer's form or in base64, a secret is masked."""
    as_packer = secret.replace(",", "%!(PACKER_COMMA)").replace("\n", "\\n")
    encoded = base64.b64encode(secret.encode()).decode()

    printed = mask(f"1,,ui,say,x {as_packer} y\n{encoded}\n", secret)

    assert as_packer not in printed
    assert encoded not in printed
    for line in secret.splitlines():
        if len(line) >= build_launch.MASKED_LENGTH_MIN:
            assert line not in mask(f"x {line} y\n", secret).replace(build_launch.MASK, "")


def test_other_text_passes_the_mask() -> None:
    """Only the secret is taken out, also when it looks like an expression."""
    assert mask("the code is a.c and abc\n", "a.c ") == "the code is ***and abc\n"
    assert mask("as it is\n") == "as it is\n"
    assert mask("x\n", "x") == "x\n", "too short to be masked"


def test_the_environment_reaches_packer_byte_for_byte() -> None:
    """A secret is there under its name and as a Packer variable, whatever it holds."""
    hostile = 'it\'s $(id) `id` "q" \\ \n; rm'
    text = launch(instance(token=hostile))

    shown = subprocess.run(
        ["sh", "-c", f"{text}\nprintf '%s|%s' \"$token\" \"$PKR_VAR_token\""],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert shown == f"{hostile}|{hostile}"
    assert text.endswith("# end\n")


def test_options_reach_packer_byte_for_byte() -> None:
    """They are added to what `sh` has, in one argument each."""
    wished = VMInputs.model_validate(
        {"mode": "build", "packer_template": "/srv/t", "packer_var_a": "it's $(id)\n", "vm": "x"}
    )
    text = build_launch.launch_text(instance(), wished).decode()

    shown = subprocess.run(
        ["sh", "-c", f'{text}\nprintf "%s|" "$@"', "sh", "packer", "build"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert shown == "packer|build|-var|a=it's $(id)\n|-var|vm_name=x|"


def test_a_template_must_be_there() -> None:
    """A directory without a template is refused before anything is copied."""
    wished = VMInputs.model_validate({"mode": "build", "packer_template": "/proc/self"})
    with pytest.raises(InvalidSpecError, match=r"\*\.pkr\.hcl"):
        build_launch.template(wished)


@pytest.mark.parametrize("name", ["n" * 300, "loop"])
def test_a_template_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    """The cause is told as what it is, and not as a directory without a template."""
    (tmp_path / "loop").symlink_to("loop")
    wished = VMInputs.model_validate(
        {"mode": "build", "packer_template": f"/proc/self/root{tmp_path}/{name}"}
    )
    with pytest.raises(InvalidSpecError, match=r"cannot be read: (File name too long|Too many)"):
        build_launch.template(wished)


def test_the_mark_of_a_build_is_not_to_be_had() -> None:
    """A build that named its own mark could neither be found nor be ended."""
    with pytest.raises(InvalidSpecError, match="SANDBOXER_BUILD"):
        launch(instance(SANDBOXER_BUILD="none"))
