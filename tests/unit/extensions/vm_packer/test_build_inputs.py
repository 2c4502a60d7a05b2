"""The inputs of mode `build`: what is taken, and what is refused by its form."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sandboxer_extensions.vm_packer import VMInputs, build_launch

TEMPLATE = {"mode": "build", "packer_template": "/srv/template"}


def test_variables_become_options_as_they_are() -> None:
    """Each `packer_var_x` is one `-var`, whatever its value says; `vm` is another word for vm_name."""
    wished = VMInputs.model_validate_json(
        '{"mode": "build", "packer_template": "/srv/template", "vm": "web",'
        ' "packer_var_b": "; rm -rf $(id)", "packer_var_a": 2, "packer_var_on": true}'
    )

    assert build_launch.options(wished) == [
        "-var", "a=2", "-var", "b=; rm -rf $(id)", "-var", "on=true", "-var", "vm_name=web",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({"vm_name": "-x"}, id="an option"),
        pytest.param({"vm_name": "-oProxyCommand=touch /tmp/x"}, id="an option of ssh"),
        pytest.param({"vm_name": "../../etc/x"}, id="a path"),
        pytest.param({"vm_name": "a\nb"}, id="two lines"),
        pytest.param({"packer_var_-force": "x"}, id="a variable that looks like an option"),
        pytest.param({"packer_var_a b": "x"}, id="a variable with a blank"),
        pytest.param({"packer_var_": "x"}, id="a variable without a name"),
        pytest.param({"packer_var_a": "x\0y"}, id="a NUL"),
        pytest.param({"packer_var_a": "x" * 40_000}, id="longer than an argument"),
        pytest.param({"packer_var_a": ["x"]}, id="no scalar"),
        pytest.param({"packer_var": "x"}, id="the variables themselves as text"),
        pytest.param({"packer_template": "-force"}, id="a template that looks like an option"),
        pytest.param({"packer_template": "/tmp\n/etc"}, id="a template with a newline"),
        pytest.param({"packer_template": "template"}, id="a relative template"),
        pytest.param({"packer_template": None}, id="no template"),
        pytest.param({"repo": "/srv/project"}, id="an input of mode attach"),
        pytest.param({"mode": "attach", "vm": "vm"}, id="a template in mode attach"),
        pytest.param({"packer_var_vm_name": "a", "vm_name": "b"}, id="a name twice"),
        pytest.param({"packer_var_vm_name": "a", "vm": "b"}, id="a name twice in other words"),
        pytest.param({"nope": "x"}, id="an input nobody knows"),
    ],
)
def test_what_is_refused(inputs: dict[str, Any]) -> None:
    """Nothing that could be read as something else gets further than the form."""
    with pytest.raises(ValidationError):
        VMInputs.model_validate(TEMPLATE | inputs)
