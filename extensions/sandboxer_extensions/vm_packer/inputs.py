"""The inputs of `ext.vm-packer`, checked for form; what they name is looked up later."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.host import ABSOLUTE_PATH_PATTERN, SSH_ALIAS_PATTERN
from sandboxer.kinds.meta import NAME_PATTERN
from sandboxer_extensions.vm_packer.build_inputs import BuildInputs

DEFAULT_ROOT = "/build"

# The index of roots has a file named after each, and a file name has 255 bytes at most.
ROOT_PATTERN = r"^/[A-Za-z0-9_][A-Za-z0-9_./+-]{0,200}$"

# One directory below the root; `sbx-` is what we name ourselves, a dot is what we hide.
WORKSPACE_NAME_PATTERN = r"(?!sbx-)[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}"

# Below these a machine keeps what it needs to run; nobody builds there.
SYSTEM_DIRECTORIES = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys",
    "/usr",
)  # fmt: skip

Alias = Annotated[str, Field(pattern=SSH_ALIAS_PATTERN)]


class VMInputs(BuildInputs):
    """Inputs of `ext.vm-packer`."""

    mode: Literal["attach", "build"] = "attach"
    """`attach`: a workspace on a VM that is there already; `build`: run Packer on a template."""
    vm: Alias | None = None
    """The VM: name of a Host, or an alias of the SSH configuration; in mode build the same as `vm_name`."""
    ssh_target: Alias | None = None
    """The same as `vm`."""
    tunnel_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """Local end of the VM's reverse tunnel; it must stand in the port registry."""
    repo: str | None = None
    """Absolute path of a directory on the controller's machine that is copied into the workspace."""
    filters: Literal["gitignore", "none"] = "gitignore"
    """What is left out of the copy: what the .gitignore files name, or nothing."""
    sync: Annotated[str, Field(max_length=200)] = ""
    """Any text; another one copies the repository again into the same workspace, or builds again."""
    root: Annotated[str, Field(pattern=ROOT_PATTERN)] = DEFAULT_ROOT
    """Directory on the VM that holds the workspaces; must belong to the login user alone."""
    workspace_dir: Annotated[str, Field(pattern=ABSOLUTE_PATH_PATTERN)] | None = None
    """Another path for the workspace: a name of its own directly below `root`."""

    @property
    def target(self) -> str:
        """Alias or Host name, as it was written."""
        return self.vm or self.ssh_target or ""

    @field_validator("repo")
    @classmethod
    def _plain_path(cls, repo: str | None) -> str | None:
        if repo is not None and not (repo.startswith("/") and repo.isprintable()):
            msg = "must be an absolute path of printable characters"
            raise ValueError(msg)
        return repo

    @field_validator("root", "workspace_dir")
    @classmethod
    def _real_place(cls, path: str | None) -> str | None:
        if path is None:
            return None
        parts = path.split("/")[1:]
        if {"", ".", ".."} & set(parts) or f"/{parts[0]}" in SYSTEM_DIRECTORIES:
            msg = f"{path} is not a place for workspaces"
            raise ValueError(msg)
        return path

    @field_validator("workspace_dir")
    @classmethod
    def _own_name(cls, path: str | None) -> str | None:
        name = PurePosixPath(path or "x").name
        if not re.fullmatch(WORKSPACE_NAME_PATTERN, name):
            msg = f"{name} cannot name a workspace"
            raise ValueError(msg)
        return path

    @model_validator(mode="after")
    def _consistent(self) -> VMInputs:
        self.check_mode(self.mode)
        if self.mode == "build":
            return self
        if not self.target:
            msg = "vm is required: the name of a Host or an alias of the SSH configuration"
            raise ValueError(msg)
        if None not in (self.vm, self.ssh_target) and self.vm != self.ssh_target:
            msg = "vm and ssh_target mean the same and name two machines"
            raise ValueError(msg)
        if (
            self.workspace_dir is not None
            and str(PurePosixPath(self.workspace_dir).parent) != self.root
        ):
            msg = f"workspace_dir {self.workspace_dir} is not directly below the root {self.root}"
            raise ValueError(msg)
        return self


def host_name(inputs: VMInputs) -> str:
    """
    Return the name of the Host that `vm` means: itself, in the form of a Kubernetes name.

    Raises:
        InvalidSpecError: It cannot be brought into that form.
    """
    name = inputs.target.lower().replace("_", "-")
    if not re.fullmatch(NAME_PATTERN.strip("^$"), name):
        raise InvalidSpecError(
            f"{inputs.target!r} cannot be the name of a Host.",
            field="spec.inputs.vm",
            remedy="Give the VM an alias of letters, digits and inner dashes.",
        )
    return name
