"""The packaged scripts as they travel: without comments and indentation, however long they are."""

from __future__ import annotations

import shlex
from functools import cache
from importlib import resources

from sandboxer.session import Completed, Session

# Bytes of a command as it is sent. dropbear ends a connection that asks for one of more than 9000
# (MAX_CMD_LEN in its sysoptions.h).
COMMAND_MAX_BYTES = 8500

# Runs the script in the first LINES of standard input; the rest of it is the script's. `read` takes
# no byte too many, which `sh -s` and `head` do not promise.
READ_SCRIPT = """
lines=$1 script=
shift
while [ "$lines" -gt 0 ] && IFS= read -r line; do
script="$script$line
" lines=$((lines - 1))
done
[ "$lines" = 0 ] || { echo "Half of the script arrived." >&2; exit 75; }
eval "$script"
""".strip()


@cache
def script_text(*names: str) -> str:
    """
    Return the scripts of these names, one after the other, as short as they can be.

    No line of ours begins a comment within a text.
    """
    folder = resources.files(__package__) / "scripts"
    lines = (
        line.strip()
        for name in names
        for line in (folder / f"{name}.sh").read_text("utf-8").splitlines()
    )
    return "\n".join(line for line in lines if line and not line.startswith("#"))


async def run_script(
    session: Session, text: str, *arguments: str, stdin: bytes = b"", timeout_s: float
) -> Completed:
    """Run a script as `Session.script` does; one that is too long for a command comes by stdin."""
    text, arguments, stdin = travelling(text, arguments, stdin)
    return await session.script(text, *arguments, stdin=stdin, timeout_s=timeout_s)


def travelling(
    text: str, arguments: tuple[str, ...], stdin: bytes
) -> tuple[str, tuple[str, ...], bytes]:
    """Return script, arguments and standard input that do the same within `COMMAND_MAX_BYTES`."""
    if len(shlex.join(["sh", "-c", text, "sh", *arguments]).encode()) <= COMMAND_MAX_BYTES:
        return text, arguments, stdin
    count = text.count("\n") + 1
    return READ_SCRIPT, (str(count), *arguments), f"{text}\n".encode() + stdin
