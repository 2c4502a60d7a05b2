"""
Copy a directory to a machine with rsync, so that nothing outside the destination can be written.

The copy is refused when any part of the destination is a symlink: rsync would follow it, and a
tenant can plant one (seen: files written *and deleted* behind it). The check, the `cd` and the
receiving rsync are one command, and rsync then writes to `.`, so nothing can be exchanged between
the check and the copy, and no path reaches rsync's own argument handling.
Over SSH rsync speaks through a Unix socket of ours (`rsync_bridge`) into the kept connection: no
second SSH client, key or known_hosts file exists.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandboxer.errors import InvalidSpecError, TerminalError, TransientError
from sandboxer.session import Completed, Copying, Streams
from sandboxer.transport.link import Link

# Bytes of messages kept from one rsync; they only serve an error sentence.
MAX_OUTPUT_BYTES = 1024 * 1024

# Seconds without a byte after which rsync itself gives up.
IO_TIMEOUT_S = 60

# Exit statuses of our own guard, outside rsync's (rsync(1), "EXIT VALUES": 0-35) and the shell's.
_SYMLINK_STATUS = 97
_NO_DIRECTORY_STATUS = 98
_NO_RSYNC_STATUS = 127

# Links are copied as links. Devices, sockets and owners are never made. `Du+rwx` keeps a
# directory removable by an account that is not root.
OPTIONS = (
    "--recursive",
    "--links",
    "--perms",
    "--times",
    "--delete",
    "--secluded-args",
    "--no-devices",
    "--no-specials",
    "--chmod=Du+rwx",
    f"--timeout={IO_TIMEOUT_S}",
)

# Where the half of a file waits for the rest; rsync leaves it out of what it copies and removes.
PARTIAL_DIRECTORY = ".sandboxer-partial"

# One report of `--info=progress2`: bytes, per cent, rate (rsync(1), "--progress").
_REPORT = re.compile(rb"([0-9,]{1,32}) +([0-9]{1,3})% +([0-9.]{1,16}[kMGT]?B/s)")

# $1 destination, the rest is the command to run inside it. Each component is entered with `cd -P`
# and the place reached is compared with the place meant, so a link that appears between the test
# and the `cd` is noticed too. The `x` keeps newlines at the end of a name.
GUARD = """
refuse() { echo "$2" >&2; exit "$1"; }
destination=$1
shift
set -f
umask 077
cd / || exit 98
rest=${destination#/}/
while [ -n "$rest" ]; do
  part=${rest%%/*}
  rest=${rest#*/}
  [ -L "./$part" ] && refuse 97 "$part is a symbolic link"
  [ -d "./$part" ] || mkdir -- "./$part" || exit 98
  cd -P -- "./$part" || exit 98
done
[ "$(pwd -P; echo x)" = "$destination
x" ] || refuse 97 "the path leads somewhere else"
command -v -- "$1" >/dev/null || refuse 127 "rsync: not found"
exec "$@"
"""


def guarded(destination: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs *argv* inside *destination*, making it, never through a link."""
    return ["sh", "-c", GUARD, "sh", destination, *argv]


def client_command(source: str, destination: str, copying: Copying) -> list[str]:
    """
    Return the command that copies on this machine.

    Raises:
        InvalidSpecError: See `check_paths`.
    """
    source = check_paths(source, destination)
    options = (*OPTIONS, *_wishes(copying))
    return guarded(destination, ["rsync", *options, "--", f"{source}/", "./"])


def bridged_command(source: str, destination: str, socket_path: str, copying: Copying) -> list[str]:
    """
    Return the local command whose far end is reached through the socket at *socket_path*.

    Raises:
        InvalidSpecError: See `check_paths`.
    """
    source = check_paths(source, destination)
    bridge = Path(__file__).with_name("rsync_bridge.py")
    # rsync splits this at blanks and understands double quotes (rsync(1), --rsh).
    shell = " ".join(f'"{word}"' for word in (sys.executable, "-I", "-S", bridge, socket_path))
    options = (*OPTIONS, *_wishes(copying), f"--rsh={shell}")
    return ["rsync", *options, "--", f"{source}/", "machine:./"]


def _wishes(copying: Copying) -> Iterator[str]:
    yield from (f"--filter={rule}" for rule in copying.filters)
    if copying.filters:
        # Rules in the tree must have arrived before they can say what not to remove.
        yield "--delete-after"
    if copying.resumable:
        yield f"--partial-dir={PARTIAL_DIRECTORY}"
    if copying.progress is not None:
        yield "--info=progress2"


async def run_client(
    link: Link, argv: Sequence[str], copying: Copying, timeout_s: float
) -> Completed:
    """Run the local rsync and tell its progress, if somebody wants to know."""
    if copying.progress is None:
        return await link.run(
            argv, stdin=b"", timeout_s=timeout_s, max_output_bytes=MAX_OUTPUT_BYTES
        )
    tell, errors = copying.progress, bytearray()

    async def output(data: bytes) -> None:
        for report in _REPORT.findall(data)[-1:]:
            count, percent, rate = (part.decode() for part in report)
            tell(f"{percent} %, {count} bytes, {rate}")

    async def error(data: bytes) -> None:
        errors.extend(data[: MAX_OUTPUT_BYTES - len(errors)])

    async with asyncio.timeout(timeout_s):
        status = await link.stream(argv, Streams(stdout=output, stderr=error))
    return Completed(exit_status=status, stdout=b"", stderr=bytes(errors))


def check_paths(source: str, destination: str) -> str:
    """
    Return *source* as an absolute path without a slash at the end.

    Raises:
        InvalidSpecError: *source* is no directory, or *destination* is not a plain absolute path.
    """
    source = os.path.abspath(source)  # noqa: PTH100 - Path.resolve would follow the last link
    if not Path(source).is_dir():
        raise InvalidSpecError(
            f"{source} is not a directory that can be copied to a host.",
            reason="SourceMissing",
            remedy="Name an existing directory on the controller's machine.",
        )
    parts = destination.split("/")[1:]
    if not destination.startswith("/") or not parts or {"", ".", ".."} & set(parts):
        raise InvalidSpecError(
            f"{destination[:200]!r} is not an absolute path without empty parts, '.' and '..'.",
            reason="DestinationInvalid",
        )
    return source


def judge(host: str, destination: str, local: Completed, remote: Completed) -> None:
    """
    Raise the error that fits how the two halves of an rsync ended; return when both succeeded.

    Raises:
        TerminalError: rsync is missing on either side, or the destination leads through a link.
        TransientError: Anything else: a full disk, a broken stream.
    """
    if remote.exit_status == _SYMLINK_STATUS:
        raise TerminalError(
            f"Refused to copy to {destination} on host {host}: {remote.error_text(200)}.",
            reason="DestinationIsLink",
            remedy="Remove the symbolic link from the path.",
        )
    if remote.exit_status == _NO_DIRECTORY_STATUS:
        raise TransientError(
            f"Cannot make {destination} on host {host}: {remote.error_text(200)}",
            reason="DestinationNotMade",
        )
    if remote.exit_status == _NO_RSYNC_STATUS:
        raise rsync_missing(f"host {host}")
    if local.exit_status == _NO_RSYNC_STATUS:
        raise rsync_missing("the controller's machine")
    if local.exit_status or remote.exit_status:
        worse = remote if remote.exit_status else local
        raise TransientError(
            f"rsync to {destination} on host {host} ended with status {worse.exit_status}: "
            f"{worse.error_text(300) or local.error_text(300)}",
            reason="CopyFailed",
        )


def rsync_missing(where: str) -> TerminalError:
    """Return the error for a machine without rsync."""
    return TerminalError(
        f"rsync is not installed on {where}.",
        reason="RsyncMissing",
        remedy="Install the package rsync there.",
    )
