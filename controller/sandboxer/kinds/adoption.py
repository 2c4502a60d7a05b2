"""What is on a host and no sandbox accounts for: the answers of `hosts/NAME/lost` and `…/adopt`."""

from __future__ import annotations

from typing import Literal

from sandboxer.kinds.meta import API_VERSION, Model, Timestamp


class LostSandbox(Model):
    """Everything on a host that carries the label of one sandbox, of which there is no object."""

    uid: str
    namespace: str
    """As its label says; empty when that cannot be read back."""
    name: str
    environment: str
    """Id of the installation that made it."""
    extension: str
    state: str
    """The extension's word for it."""
    contents: str = ""
    """What it consists of, as words."""
    created_at: Timestamp | None = None
    """When its object was created; absent when that is not known."""
    is_ours: bool = False
    """Whether its manifest was signed with the key of this installation's data directory."""
    objection: str = ""
    """Why it cannot be adopted, as a sentence."""
    remark: str = ""
    """What a person should know when it is."""


class LostSandboxes(Model):
    """What is lost on one host."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["LostSandboxes"] = "LostSandboxes"
    environment: str
    """Id of this installation."""
    sandboxes: tuple[LostSandbox, ...] = ()
    problems: dict[str, str] = {}
    """By extension, why it could not look, as a sentence."""


class Adopted(Model):
    """What became of one that was to be adopted."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["Adopted"] = "Adopted"
    uid: str
    adopted: bool
    """Whether it has an object now that it had not before."""
    message: str = ""
    """Why not, or what a person should know."""
