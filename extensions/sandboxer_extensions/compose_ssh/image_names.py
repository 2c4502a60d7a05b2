"""
Names of images, which engines and people write in several ways.

`debian`, `debian:latest` and `docker.io/library/debian:latest` are one image; a digest goes over a
tag beside it.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_HUB = re.compile(r"^docker\.io/(library/)?")


def canonical(name: str) -> str:
    """Return an image's name as engines compare it: without Docker Hub's prefix, with its tag."""
    short = _HUB.sub("", name)
    path, at, digest = short.partition("@")
    last = path.rpartition("/")[2]
    if at:
        return f"{path.rpartition(':')[0] if ':' in last else path}@{digest}"
    return short if ":" in last else f"{short}:latest"


def matches(name: str, pattern: str) -> bool:
    """Tell whether a name is meant by an entry of the keep list; without a tag it means all tags."""
    wanted = _HUB.sub("", pattern)
    if not {":", "@"} & set(wanted.rpartition("/")[2]):
        return fnmatchcase(canonical(name), f"{wanted}[:@]*") or fnmatchcase(name, f"{wanted}[:@]*")
    return fnmatchcase(canonical(name), wanted) or fnmatchcase(name, wanted)
