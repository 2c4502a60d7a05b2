"""The profiles that ship: inside the wheel, or in `profiles/` of the checkout it runs from."""

from __future__ import annotations

import functools
from pathlib import Path

import sandboxer
from sandboxer.errors import TerminalError
from sandboxer.kinds.profile import Profile
from sandboxer.sources.documents import decode_documents

_PACKAGE = Path(sandboxer.__file__).parent


def profile_directory() -> Path:
    """
    Return the directory that holds the shipped profiles.

    Raises:
        TerminalError: The installation is incomplete.
    """
    # A wheel carries them as `_profiles`; an editable install sees the checkout, two levels up.
    for candidate in (_PACKAGE / "_profiles", _PACKAGE.parents[1] / "profiles"):
        if candidate.is_dir():
            return candidate
    raise TerminalError(
        f"The profiles that ship with sandboxer are missing beside {_PACKAGE}.",
        remedy="Install sandboxer again.",
    )


@functools.cache
def builtin_profiles() -> tuple[Profile, ...]:
    """
    Return every shipped profile, by name.

    Raises:
        DocumentError: One of them was damaged.
        TerminalError: They are missing.
    """
    documents = [
        document
        for path in sorted(profile_directory().glob("*.yaml"))
        for document in decode_documents(path.read_bytes(), str(path))
    ]
    return tuple(d.resource for d in documents if isinstance(d.resource, Profile))
