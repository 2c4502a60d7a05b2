"""
What a build is started with: options for Packer, its environment, and the mask of its log.

Values of `packer_var_…` are arguments and stand in the spec anyway. Secrets are in the environment
only, once under their name and once as `PKR_VAR_<name>`; and because Packer prints even what a
template calls sensitive (`-machine-readable`, 1.6.6), a filter takes them out of all it prints.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from pydantic import SecretStr

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Instance
from sandboxer_extensions.local import launching
from sandboxer_extensions.vm_packer.inputs import VMInputs
from sandboxer_extensions.vm_packer.scripting import script_text

# Characters below which a secret, or a line of one, is not masked: it would take words out of
# everything that is printed, and show by that what it is.
MASKED_LENGTH_MIN = 4

MASK = "***"

# As scripts/build_shared.sh sets it.
MARK_VARIABLE = "SANDBOXER_BUILD"

Value = str | int | float | bool


def template(wished: VMInputs) -> str:
    """
    Return the directory of the template.

    Raises:
        InvalidSpecError: There is none, it cannot be read, or nothing in it is for Packer.
    """
    directory = Path(wished.packer_template or "")
    if not any(name.endswith((".pkr.hcl", ".pkr.json")) for name in _listed(directory)):
        raise InvalidSpecError(
            f"packer_template {directory} holds no file *.pkr.hcl.",
            field="spec.inputs.packer_template",
            remedy="Old JSON templates are converted by `packer hcl2_upgrade`.",
        )
    return str(directory)


def _listed(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - names are all that is wanted
    except (FileNotFoundError, NotADirectoryError) as error:
        cause = f"packer_template {directory} is not a directory on the controller's machine."
        raise _no_template(cause) from error
    except OSError as error:
        cause = f"packer_template {directory} cannot be read: {error.strerror}."
        raise _no_template(cause) from error


def _no_template(message: str) -> InvalidSpecError:
    return InvalidSpecError(
        message,
        field="spec.inputs.packer_template",
        remedy="Give the absolute path of a directory with *.pkr.hcl files.",
    )


def options(wished: VMInputs) -> list[str]:
    """Return the variables as options of `packer validate` and `packer build`, in a stable order."""
    variables: dict[str, Value] = dict(wished.packer_var)
    if wished.vm_name or wished.vm:
        variables.setdefault("vm_name", wished.vm_name or wished.vm or "")
    return [word for name in sorted(variables) for word in ("-var", _given(name, variables[name]))]


def launch_text(instance: Instance, wished: VMInputs) -> bytes:
    """
    Return environment and options of Packer as lines for `sh`, UTF-8.

    The options are added to the arguments that `sh` has. They travel here and not as arguments of a
    script, as some SSH servers take only 9000 bytes of those (dropbear, MAX_CMD_LEN).

    Its last line says that nothing of it was lost on the way.

    Raises:
        InvalidSpecError: A name or value cannot be given to a process.
    """
    _refuse_own_names(instance)
    lines = "".join(
        f"export PKR_VAR_{name}={shlex.quote(secret.get_secret_value())}\n"
        for name, secret in instance.secrets.items()
    )
    # NOTE: checked first: names and values of the lines above are among those.
    given = f'set -- "$@" {shlex.join(options(wished))}\n'
    return launching.environment_text(instance) + f"{lines}{given}# end\n".encode()


def start_text(instance: Instance, wished: VMInputs) -> bytes:
    """Return what `scripts/build_start.sh` reads: mask, keeper and launch text."""
    keeper = [f"{line}\n" for line in script_text("build_keeper").split("\n")]
    parts = (mask_script(instance.secrets), keeper)
    counted = "".join(f"{len(part)}\n{''.join(part)}" for part in parts)
    return counted.encode() + launch_text(instance, wished)


def mask_script(secrets: Mapping[str, SecretStr]) -> list[str]:
    """Return a sed script, a line each, that takes secrets out of what Packer prints."""
    return [f"s/{_literal(form)}/{MASK}/g\n" for form in _forms(secrets)]


def masked(text: str, secrets: Mapping[str, SecretStr]) -> str:
    """Return *text* without secrets."""
    for form in _forms(secrets):
        text = text.replace(form, MASK)
    return text


def _refuse_own_names(instance: Instance) -> None:
    """Refuse what would take the mark away by which the processes of a build are found."""
    if MARK_VARIABLE in {*instance.env, *instance.secrets}:
        raise InvalidSpecError(
            f"{MARK_VARIABLE} is the name of a variable that every build has already.",
            field="spec.env",
            remedy="Give the variable another name.",
        )


def _given(name: str, value: Value) -> str:
    # Packer reads what is no string as an expression, in which JSON is valid.
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def _forms(secrets: Mapping[str, SecretStr]) -> list[str]:
    """Return the texts in which the secrets may be printed, longest first, none with a newline."""
    found = {form for secret in secrets.values() for form in _printed(secret.get_secret_value())}
    return sorted(
        (form for form in found if len(form) >= MASKED_LENGTH_MIN and "\n" not in form),
        key=lambda form: (-len(form), form),
    )


def _printed(value: str) -> Iterator[str]:
    for plain in (value, value.rstrip("\n"), *value.splitlines()):
        yield plain
        # As Packer writes its machine-readable lines.
        yield (plain.replace(",", "%!(PACKER_COMMA)").replace("\r", "\\r").replace("\n", "\\n"))
        yield base64.b64encode(plain.encode()).decode()
        yield quote(plain, safe="")


def _literal(text: str) -> str:
    """Return a basic regular expression that matches exactly *text*."""
    return re.sub(r"([][\\.*^$/])", r"\\\1", text)
