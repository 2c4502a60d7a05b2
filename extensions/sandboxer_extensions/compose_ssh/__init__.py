"""Sandboxes as compose projects on a machine with podman or docker (`docs/compose.md`)."""

from sandboxer_extensions.compose_ssh.extension import ComposeSSHExtension

__all__ = ["ComposeSSHExtension"]
