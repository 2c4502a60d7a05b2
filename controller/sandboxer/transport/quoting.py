"""
Turn an argument list into the one line a remote login shell runs, and back to the same list.

The only place where text becomes shell. `sshd` hands the line to the account's shell with `-c`;
every POSIX shell splits what `shlex.quote` wrote into exactly the arguments it came from.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sandboxer.errors import InvalidSpecError

# Bytes. Linux refuses a single argument above 128 KiB (MAX_ARG_STRLEN, execve(2)), and sshd passes
# the whole line as one argument of the shell.
MAX_LINE_BYTES = 128 * 1024 - 1


def check_arguments(argv: Sequence[str]) -> None:
    """
    Refuse what no kernel can pass to a program.

    Raises:
        InvalidSpecError: No program is named, an argument holds a NUL, or one is too long.
    """
    if not argv or not argv[0]:
        raise InvalidSpecError("The command is empty.", remedy="Name a program to run.")
    for position, argument in enumerate(argv):
        if "\0" in argument:
            raise InvalidSpecError(
                f"Argument {position} of {argv[0][:80]!r} contains a NUL character, which no "
                "program can be given.",
                reason="CommandInvalid",
            )
        if len(argument) > MAX_LINE_BYTES:
            raise _too_long(argv)


def remote_line(argv: Sequence[str]) -> bytes:
    """
    Return the shell line that runs *argv* exactly as it is.

    Returns:
        UTF-8; bytes of file names that are not UTF-8 (surrogate escapes) come out as they were.

    Raises:
        InvalidSpecError: See `check_arguments`; or all arguments together are too long.
    """
    check_arguments(argv)
    line = shlex.join(argv).encode("utf-8", "surrogateescape")
    if len(line) > MAX_LINE_BYTES:
        raise _too_long(argv)
    return line


def _too_long(argv: Sequence[str]) -> InvalidSpecError:
    return InvalidSpecError(
        f"The arguments of {argv[0][:80]!r} are longer than {MAX_LINE_BYTES} bytes together.",
        reason="CommandTooLong",
        remedy="Pass large values through a file or the standard input.",
    )
