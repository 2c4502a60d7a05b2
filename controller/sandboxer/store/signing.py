"""
The key by which an installation knows again what it has left on hosts.

It lies beside the store in a file of its own, mode 0600, so that it outlives a store that is lost.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from sandboxer.errors import TerminalError

KEY_FILE: Final = "manifest.key"
"""Name of the file, in the directory of the store."""

# Bytes: as many as SHA-256 gives, RFC 2104.
_KEY_BYTES: Final = 32


def signing_key(store: Path) -> bytes:
    """
    Return the key beside the store at *store*, 32 bytes; made when there is none.

    Raises:
        TerminalError: It cannot be read or made, or holds something else.
    """
    path = store.with_name(KEY_FILE)
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise TerminalError(
            f"The key {path} cannot be used ({error.strerror or error}).",
            reason="KeyUnavailable",
            remedy="Check that this user may read and write there.",
        ) from error
    if len(key) != _KEY_BYTES:
        raise TerminalError(
            f"The key {path} has {len(key)} bytes instead of {_KEY_BYTES}.",
            reason="KeyDamaged",
            remedy="Restore it from a backup; or remove it, and what is on hosts is signed by "
            "another one.",
        )
    return key


def _make(path: Path) -> None:
    """Make the file, complete from its first instant; another process may have been quicker."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()
