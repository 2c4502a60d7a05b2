"""
The text a sandbox runs: its environment and its command, as `sh` reads it from a file.

Environment and secrets must not appear in arguments, so they are written as `export` lines. Every
value goes through `shlex.quote`, and the text is evaluated inside the walls only: a variable such
as `LD_PRELOAD` or `PATH` never reaches a program of ours.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Instance
from sandboxer.kinds.sandbox import ENV_NAME_PATTERN

# 68 years; unlike `infinity` it is understood by every sleep, busybox's included.
DEFAULT_COMMAND = "exec sleep 2147483647"

# Linux refuses a longer single argument or variable (MAX_ARG_STRLEN, execve(2)): 32 pages of 4 KiB,
# of which the name of a variable takes at most 130.
VALUE_BYTES_MAX = 32 * 4096 - 256

# Linux refuses arguments and environment together above a quarter of the stack limit, 2 MiB with
# the usual 8 MiB; half of it leaves room for the command's own arguments.
ENVIRONMENT_BYTES_MAX = 2**20


def launch_text(command: str, instance: Instance) -> bytes:
    """
    Return the environment of *instance* and *command* as text for `sh`, UTF-8.

    Its last line says that nothing of it was lost on the way.

    Raises:
        InvalidSpecError: A value cannot be given to a process.
    """
    run = shlex.quote(_checked(command, "spec.inputs.command"))
    return environment_text(instance) + f"exec /bin/sh -c {run} 3<&-\n# end\n".encode()


def environment_text(instance: Instance) -> bytes:
    """
    Return plain and secret environment of *instance* as `export` lines for `sh`, UTF-8.

    Raises:
        InvalidSpecError: A name or value cannot be given to a process.
    """
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in _variables(instance))
    encoded = text.encode()
    if len(encoded) > ENVIRONMENT_BYTES_MAX:
        raise InvalidSpecError(
            f"The environment of {instance.name} takes {len(encoded)} bytes, "
            f"and {ENVIRONMENT_BYTES_MAX} is the most.",
            field="spec.env",
            remedy="Put large values into files of the repository.",
        )
    return encoded


def repository(path: str | None) -> str:
    """
    Return the directory to copy, or an empty text for none.

    Raises:
        InvalidSpecError: It is no absolute path of an existing directory.
    """
    if path is None:
        return ""
    checked = _checked(path, "spec.inputs.repo")
    if not Path(checked).is_absolute() or "\n" in checked or not Path(checked).is_dir():
        raise InvalidSpecError(
            f"repo {checked[:200]!r} is not a directory on this machine.",
            field="spec.inputs.repo",
            remedy="Give the absolute path of a directory.",
        )
    return checked


def _variables(instance: Instance) -> Iterator[tuple[str, str]]:
    """Yield names and values, secrets after the rest; neither can leave its quotes."""
    opened = {name: secret.get_secret_value() for name, secret in instance.secrets.items()}
    for name, value in (*instance.env.items(), *opened.items()):
        if not re.fullmatch(ENV_NAME_PATTERN.strip("^$"), name):
            raise InvalidSpecError(f"{name[:40]!r} cannot name a variable.", field="spec.env")
        yield name, _checked(value, f"spec.env.{name}")


def _checked(value: str, field: str) -> str:
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidSpecError(f"{field} is not valid Unicode.", field=field) from error
    if "\0" in value or size_bytes > VALUE_BYTES_MAX:
        raise InvalidSpecError(
            f"{field} holds a NUL or more than {VALUE_BYTES_MAX} bytes, "
            "which no process can be given.",
            field=field,
        )
    return value
