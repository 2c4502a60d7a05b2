"""
`cp`: files between this machine and a sandbox, by the `tar` that is in the sandbox.

The way is that of `exec`, as with `kubectl cp`, so it works wherever `exec` does. What arrives
here is written by `sandboxer.cli.unpacking`, which trusts no archive.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import click

from sandboxer.cli import archive, unpacking
from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit, RefusedError
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.printing import note, safe_text
from sandboxer.client.paths import path_of
from sandboxer.errors import NotFoundError
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.cli.transfer import Inside

STREAM = "-"

# What `path` of a sandbox is, on a line; exit statuses as in `sandboxer.cli.transfer`.
LOOK = """
command -v tar >/dev/null || exit 127
if [ -d "$1" ]; then echo directory; elif [ -f "$1" ]; then echo file
elif [ -e "$1" ]; then echo "it is neither a file nor a directory" >&2; exit 1; else exit 66; fi
"""

# Take one file, under a name of its own until it is whole: DESTINATION NAME TEMPORARY.
TAKE_FILE = """
command -v tar >/dev/null || exit 127
to=$1
[ ! -d "$to" ] || to=${to%/}/$2
[ ! -d "$to" ] || { echo "$to is a directory" >&2; exit 1; }
case $to in
*/) echo "there is no directory $to" >&2; exit 1 ;;
*/*) parent=${to%/*}/ ;;
*) parent=./ ;;
esac
trap 'rm -f "$parent$3"' EXIT
trap 'exit 1' HUP INT TERM
tar -xpf - -C "$parent" && mv -f "$parent$3" "$to"
"""

# Take a directory, into one that is there or a new one: DESTINATION NAME.
TAKE_DIRECTORY = """
command -v tar >/dev/null || exit 127
to=$1
[ -z "$2" ] || [ ! -d "$to" ] || to=${to%/}/$2
[ -d "$to" ] || mkdir "$to" || exit 1
exec tar -xpf - -C "$to"
"""


class Place(NamedTuple):
    """One side of a copy."""

    sandbox: str
    """ID, empty for this machine."""
    path: str

    @property
    def name(self) -> str:
        """Last part of the path, empty when that names no entry of a directory."""
        name = PurePosixPath(self.path).name
        return "" if name == ".." or self.path.endswith("/.") else name


def place(text: str) -> Place:
    """Read `ID:PATH`, `PATH` or `-`; what begins with `/`, `.` or `~` is always a path here."""
    sandbox, colon, path = text.partition(":")
    if not colon or not sandbox or text[0] in "/.~":
        return Place("", text)
    # A path like an option is a path all the same.
    path = path or "."
    return Place(sandbox, f"./{path}" if path.startswith("-") else path)


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("-c", "--container", default="", metavar="SERVICE", help="Compose service; the first when left out.")  # fmt: skip
@namespace_option
def cp(source: str, destination: str, container: str, *, namespace: str | None) -> int:
    """
    Copy files and directories into a sandbox or out of it.

    One side is ID:PATH, the other a path here, or - for a tar archive on standard input or output.
    A relative PATH begins where exec does. A path here that holds a colon begins with ./ or /.
    """
    from_, to = place(source), place(destination)
    _check(from_, to)

    async def work(access: Access) -> int:
        from sandboxer.cli.transfer import Inside

        sandbox = await get_sandbox(
            access.client, from_.sandbox or to.sandbox, current_namespace(namespace)
        )
        metadata = sandbox.metadata
        inside = Inside(
            server=access.client.server,
            path=path_of(Sandbox, metadata.namespace, metadata.name),
            name=metadata.name,
            container=container,
        )
        with inside.visible(f"{source} to {destination}"):
            return await (_fetch if from_.sandbox else _send)(inside, from_, to)

    return with_api(work)


def _check(from_: Place, to: Place) -> None:
    """Refuse what is no copy between here and a sandbox."""
    if from_.sandbox and to.sandbox:
        raise click.UsageError(
            "both are in a sandbox; copy with: sandboxer cp A:PATH - | sandboxer cp - B:PATH"
        )
    if not from_.sandbox and not to.sandbox:
        raise click.UsageError("one side must be ID:PATH, in a sandbox")
    terminal = sys.stdin if to.sandbox else sys.stdout
    if STREAM in (from_.path, to.path) and terminal.isatty():
        raise click.UsageError("a tar archive does not belong on a terminal; use a pipe or a file")


async def _send(inside: Inside, from_: Place, to: Place) -> int:
    """Copy into the sandbox."""
    if from_.path == STREAM:
        return await _send_stream(inside, to)
    try:
        left_out = await _send_archive(inside, from_, to)
    except OSError as error:
        raise RefusedError(
            f"Cannot read {safe_text(str(error.filename or from_.path))}: {error.strerror or error}.",
            reason="CannotRead",
            remedy="What was copied until then is there.",
        ) from error
    for path in left_out:
        note(f"note: {safe_text(path)} is neither a file nor a directory nor a link: left out")
    return Exit.OK


async def _send_archive(inside: Inside, from_: Place, to: Place) -> list[str]:
    source, is_directory = _readable(from_)
    name = "." if is_directory else f".sandboxer-{secrets.token_hex(8)}"
    script = TAKE_DIRECTORY if is_directory else TAKE_FILE
    argv = ["sh", "-c", script, "cp", to.path, from_.name, name]
    return await inside.send(argv, to.path, lambda file: archive.pack(file, source, name))


def _readable(from_: Place) -> tuple[Path, bool]:
    """Return what is to be copied, without links on the way, and whether it is a directory."""
    path = Path(from_.path)
    if not path.exists():
        raise NotFoundError(f"There is no {safe_text(from_.path)} on this machine.")
    if not (path.is_dir() or path.is_file()):
        raise RefusedError(f"{safe_text(from_.path)} is neither a file nor a directory.")
    return path.resolve(), path.is_dir()


async def _send_stream(inside: Inside, to: Place) -> int:
    from sandboxer.cli.terminal import connected

    with connected(interactive=True, terminal=False) as streams:
        argv = ["sh", "-c", TAKE_DIRECTORY, "cp", to.path, ""]
        await inside.run(argv, to.path, stdin=streams.stdin)
    return Exit.OK


async def _fetch(inside: Inside, from_: Place, to: Place) -> int:
    """Copy out of the sandbox."""
    kind = await inside.ask(["sh", "-c", LOOK, "cp", from_.path], from_.path)
    if kind == "directory":
        argv = ["tar", "-cf", "-", "-C", from_.path, "."]
    elif kind == "file":
        directory, slash, name = from_.path.rpartition("/")
        argv = ["tar", "-chf", "-", "-C", (directory or slash or "."), f"./{name}"]
    else:
        raise RefusedError(f"Sandbox {inside.name} does not say what {from_.path} is.")
    if to.path == STREAM:
        return await _fetch_stream(inside, argv, from_)
    left_out = await inside.fetch(
        argv, from_.path, lambda file: _unpacked(file, from_, to, is_file=kind == "file")
    )
    if left_out:
        raise RefusedError(
            f"Left out: {left_out}.",
            reason="LeftOut",
            remedy="Everything else was copied.",
        )
    return Exit.OK


async def _fetch_stream(inside: Inside, argv: list[str], from_: Place) -> int:
    from sandboxer.cli.terminal import connected

    with connected(interactive=False, terminal=False) as streams:
        await inside.run(argv, from_.path, stdout=streams.stdout)
    return Exit.OK


def _unpacked(file: BinaryIO, from_: Place, to: Place, *, is_file: bool) -> str:
    """Write an archive where it belongs and return what was left out, empty when nothing was."""
    try:
        directory, name = _landing(to, from_, is_file=is_file)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if is_file:
                unpacking.unpack_file(file, descriptor, name)
                return ""
            return _unpacked_directory(file, descriptor, name)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RefusedError(
            f"Cannot write {safe_text(to.path)}: {error.strerror or error}.", reason="CannotWrite"
        ) from error


def _unpacked_directory(file: BinaryIO, descriptor: int, name: str) -> str:
    root = unpacking.enter(descriptor, name) if name else os.dup(descriptor)
    try:
        unpacker = unpacking.Unpacker(root)
        unpacker.unpack(file)
    finally:
        os.close(root)
    more = unpacker.left_out_count - len(unpacker.left_out)
    return ", ".join(unpacker.left_out) + (f" and {more} more" if more else "")


def _landing(to: Place, from_: Place, *, is_file: bool) -> tuple[Path, str]:
    """
    Return directory and name of what is copied here; no name means the directory itself.

    Raises:
        RefusedError: Something that is neither a file nor a directory has that name.
    """
    target = Path(os.path.realpath(to.path))
    if target.is_dir():
        return target, from_.name
    if is_file and to.path.endswith("/"):
        raise RefusedError(f"There is no directory {safe_text(to.path)}.", reason="CannotWrite")
    if target.exists() and not target.is_file():
        raise RefusedError(
            f"{safe_text(to.path)} is neither a file nor a directory.",
            reason="InTheWay",
            remedy="Use - to get an archive on standard output.",
        )
    return target.parent, target.name
