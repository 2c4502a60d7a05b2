"""What a manifest may say to `ext.compose-ssh`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from sandboxer.extension import Inputs
from sandboxer_extensions.compose_ssh.document import MAX_DOCUMENT_BYTES
from sandboxer_extensions.compose_ssh.policy import check_text


class ComposeInputs(Inputs):
    """Inputs of `ext.compose-ssh`: a repository, a compose text, or one image."""

    repo: Annotated[str, Field(pattern=r"^[/~]", max_length=4096)] | None = None
    """Directory on the controller's machine; copied to the host once."""
    compose_file: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=255)] | None
    ) = None
    """Compose file inside `repo`; absent means compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml."""
    compose: Annotated[str, Field(min_length=1, max_length=MAX_DOCUMENT_BYTES)] | None = None
    """Compose file as text, instead of `repo`."""
    image: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}$")] | None = None
    """Image of the only service, `main`; with `repo`, used when the repository has no compose file."""
    command: Annotated[str, Field(max_length=4096)] | None = None
    """Command of that service, split like a shell does; nothing in it is expanded."""
    stop_grace_s: Annotated[int, Field(ge=0, le=300)] = 0
    """Seconds a process gets between SIGTERM and SIGKILL; 0 kills at once."""

    @field_validator("compose")
    @classmethod
    def _may_run(cls, text: str | None) -> str | None:
        """Refuse at once what no host would take, instead of looking for a host that does."""
        if text is not None:
            check_text(
                text, origin="the compose text", field="spec.inputs.compose", qualified_images=False
            )
        return text

    @model_validator(mode="after")
    def _one_source(self) -> ComposeInputs:
        if self.compose is not None and (self.repo is not None or self.image is not None):
            msg = "compose stands alone: leave out repo and image"
            raise ValueError(msg)
        if self.compose is None and self.repo is None and self.image is None:
            msg = "one of repo, compose and image is needed"
            raise ValueError(msg)
        if self.compose_file is not None and self.repo is None:
            msg = "compose_file is a path inside repo, and there is no repo"
            raise ValueError(msg)
        return self
