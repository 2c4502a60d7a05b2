"""
The inputs of mode `build`, checked for form.

What the template declares is Packer's to say: a variable that it does not know is refused by
`packer validate`, with Packer's own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from sandboxer.extension import Inputs
from sandboxer.kinds.host import ABSOLUTE_PATH_PATTERN

PREFIX = "packer_var_"

# Inputs of one mode that the other one would silently ignore.
ONLY_BUILD = ("packer_template", "vm_name", "packer_var")
ONLY_ATTACH = ("ssh_target", "tunnel_port", "repo", "filters", "root", "workspace_dir")

# Characters of a variable's value: Linux refuses a longer argument (MAX_ARG_STRLEN, execve(2)), and
# four bytes are the most that UTF-8 takes for one.
VALUE_LENGTH_MAX = 30_000

# A name never begins like an option.
VM_NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}$"

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,99}$")]
VariableText = Annotated[str, Field(max_length=VALUE_LENGTH_MAX, pattern=r"^[^\x00]*$")]


class BuildInputs(Inputs):
    """Inputs that only mode `build` knows."""

    model_config = ConfigDict(
        json_schema_extra={
            "patternProperties": {
                f"^{PREFIX}": {
                    "type": ["string", "number", "boolean"],
                    "description": "Value of the Packer variable named by the rest of the name.",
                }
            }
        }
    )

    packer_template: Annotated[str, Field(pattern=ABSOLUTE_PATH_PATTERN)] | None = None
    """Absolute path of a directory on the controller's machine that holds `*.pkr.hcl` files."""
    vm_name: Annotated[str, Field(pattern=VM_NAME_PATTERN)] | None = None
    """Value of the Packer variable `vm_name`."""
    packer_var: Annotated[
        Mapping[VariableName, VariableText | int | float | bool], Field(max_length=200)
    ] = {}
    """Values of Packer variables; one that is called `x` is given as the input `packer_var_x`."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        """Bring the inputs `packer_var_…` together in one."""
        if not isinstance(values, dict):
            return values
        named = {name for name in values if isinstance(name, str) and name.startswith(PREFIX)}
        if not named:
            return values
        if "packer_var" in values:
            msg = "packer_var and packer_var_… cannot both be given"
            raise ValueError(msg)
        rest = {name: value for name, value in values.items() if name not in named}
        return {**rest, "packer_var": {n.removeprefix(PREFIX): values[n] for n in sorted(named)}}

    def check_mode(self, mode: str) -> None:
        """
        Refuse what *mode* does not know, and a build without a template.

        Raises:
            ValueError: As validators do.
        """
        foreign = ONLY_ATTACH if mode == "build" else ONLY_BUILD
        for name in foreign:
            if name in self.model_fields_set:
                msg = f"mode {mode} takes no {name}"
                raise ValueError(msg)
        if mode == "build" and self.packer_template is None:
            msg = "packer_template is required in mode build: a directory with *.pkr.hcl files"
            raise ValueError(msg)
        if "vm_name" in self.packer_var and {"vm", "vm_name"} & self.model_fields_set:
            msg = "packer_var_vm_name and vm_name (or vm) mean the same variable; give one of them"
            raise ValueError(msg)
