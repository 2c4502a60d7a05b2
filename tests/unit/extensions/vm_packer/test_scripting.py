"""Scripts reach a machine whose SSH server takes only short commands."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import pytest

from sandboxer.transport.quoting import remote_line
from sandboxer_extensions.vm_packer import scripting

# dropbear's MAX_CMD_LEN, less what it counts itself.
TAKEN_BYTES = 8999

# Parts of others, and what travels as input already.
NO_COMMANDS = {"shared", "build_shared", "build_keeper"}
NAMES = sorted(
    path.name.removesuffix(".sh")
    for path in (resources.files(scripting.__package__) / "scripts").iterdir()
    if path.name.removesuffix(".sh") not in NO_COMMANDS
)
ALONE = ("exec", "logs", "build_logs", "tell", "free")
SHELLS = [["sh"], ["busybox", "sh"], ["bash", "--posix"]]


def whole(name: str) -> str:
    """Return a script with what it is run with."""
    if name in ALONE:
        return scripting.script_text(name)
    if name.startswith("build_"):
        return scripting.script_text("shared", "build_shared", name)
    return scripting.script_text("shared", name)


@pytest.mark.parametrize("length", [10, 200, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_short_enough(name: str, length: int) -> None:
    """With paths, labels and all, no script makes a command that dropbear ends the connection for."""
    arguments = ("/" + "x" * length, "'" * 100, "y" * 900, "/" + "z" * length)

    text, given, _ = scripting.travelling(whole(name), arguments, b"")

    assert len(remote_line(["sh", "-c", text, "sh", *given])) <= TAKEN_BYTES


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_long_script_does_the_same(shell: Sequence[str]) -> None:
    """A script that comes by stdin has its arguments, leaves the rest of stdin, and keeps its text."""
    odd = 'printf \'%s|\' "$1" "$2" \'a\\nb  c\\\'\nread -r first\necho "$first"\ncat\nexit 7'
    text = odd + "\n:" * 5000

    text, arguments, stdin = scripting.travelling(text, ("one two", "'q'"), b"line\n  rest \\\n\0x")
    done = subprocess.run(
        [*shell, "-c", text, "sh", *arguments], input=stdin, capture_output=True, check=False, timeout=60
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (7, b"")
    assert done.stdout == b"one two|'q'|a\\nb  c\\|line\n  rest \\\n\0x"


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_half_a_script_is_not_run(shell: Sequence[str], tmp_path: Path) -> None:
    """What was cut off on the way does nothing."""
    text, arguments, stdin = scripting.travelling(f"touch {tmp_path}/done\n" * 500, (), b"")

    done = subprocess.run(
        [*shell, "-c", text, "sh", *arguments], input=stdin[:-100], capture_output=True, check=False, timeout=60
    )  # fmt: skip

    assert done.returncode == 75
    assert list(tmp_path.iterdir()) == []
