"""
Images that nobody uses, removed to make room on a host's disk.

Asked and done by the engine's command, which both engines answer alike. Never forced: an image
that has come into use since the list was made is refused by the engine itself. The largest go
first, for that frees the disk with the fewest removals; when an image was made says little about
whether it is wanted, and when it was used last no engine says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sandboxer.errors import TransientError
from sandboxer.extension import Pruned, Pruning
from sandboxer.kinds.meta import GROUP
from sandboxer.session import Session
from sandboxer_extensions.compose_ssh.image_names import canonical, matches

# Seconds after which no further removal is begun, and what the script may take with the last one.
_REMOVALS_LIMIT_S = 60
_TIMEOUT_S = 110.0

# Images removed in one go: as many as fit into the two minutes, and into an answer a person reads.
_MAX_REMOVALS = 200

# A name as engines write it; never an option, and never a word of the shell.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}", re.ASCII)
_ID = re.compile(r"(sha256:)?[0-9a-f]{64}", re.ASCII)
# What a sandbox built for itself, of whatever installation; it goes with the sandbox.
_BUILT_FOR_A_SANDBOX = re.compile(r"localhost/sbx-[0-9a-f]{12}_")

# $1 engine, $2 work root. Lines `used ID` and `named NAME`, then `images`, then a JSON list.
# NOTE: images first, or one whose container is made in between would be listed as unused.
LIST = """
engine=$1
ids=$("$engine" images -q --no-trunc) || exit 1
ids=$(printf '%s\\n' $ids | sort -u)
containers=$("$engine" ps -aq) || exit 1
if [ -n "$containers" ]; then
    "$engine" container inspect --format 'used {{.Image}}' $containers || exit 1
fi
for file in "$2"/sbx-*/compose.yaml; do
    [ -f "$file" ] || continue
    sed -n 's/^ *"image": "\\(.*\\)",\\{0,1\\}$/named \\1/p' "$file" || exit 1
done
echo images
[ -n "$ids" ] || { echo '[]'; exit 0; }
exec "$engine" image inspect $ids
"""

# $1 engine, $2 its store, $3 KiB to be free, $4 seconds. stdin: one image a line, id and names.
# Lines `free KiB`, `removed ID` and `kept ID`.
REMOVE = """
engine=$1 store=$2 wanted=$3 end=$(($(date +%s) + $4))
free() { df -Pk "$store" | { while read -r _ _ _ free _; do last=$free; done; echo "$last"; }; }
left=$(free) && [ -n "$left" ] || exit 1
echo "free $left"
while read -r id names; do
    [ "$left" -lt "$wanted" ] && [ "$(date +%s)" -lt "$end" ] || break
    if "$engine" rmi ${names:-"$id"} >/dev/null 2>&1 </dev/null
    then echo "removed $id"; else echo "kept $id"; fi
    left=$(free)
done
echo "free $left"
"""


# NOTE: an engine says null where it has nothing.
_Names = Annotated[list[str], BeforeValidator(lambda value: [] if value is None else value)]
_Labels = Annotated[dict[str, str], BeforeValidator(lambda value: {} if value is None else value)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    labels: _Labels = Field(default={}, alias="Labels")


class _Image(BaseModel):
    """What either engine tells of an image, as far as it is needed."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: str = Field(alias="Id")
    tags: _Names = Field(default=[], alias="RepoTags")
    digests: _Names = Field(default=[], alias="RepoDigests")
    size_bytes: int = Field(default=0, alias="Size")
    config: _Config | None = Field(default=None, alias="Config")

    @property
    def names(self) -> list[str]:
        return [*self.tags, *self.digests]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removable:
    """One image that may go."""

    id: str
    names: tuple[str, ...]
    """What to remove it by; empty for one without a name."""
    size_bytes: int
    """As the engine claims; shared parts are counted with each image that has them."""


async def prune(session: Session, pruning: Pruning) -> Pruned:
    """Remove unused images until there is room; see `Extension.prune`."""
    facts = session.facts
    if not facts.engine or not facts.engine_store:
        return Pruned()
    done = await session.script(LIST, facts.engine, facts.work_root, timeout_s=_TIMEOUT_S)
    if done.exit_status:
        raise _unreadable(session, done.error_text(200))
    try:
        unused = removable(done.stdout.decode("utf-8", "replace"), keep=pruning.keep_images)
    except ValueError as error:
        raise _unreadable(session, str(error).splitlines()[0][:200]) from error
    return await _remove(session, unused[:_MAX_REMOVALS], pruning.free_bytes)


def removable(listing: str, *, keep: Collection[str] = ()) -> list[Removable]:
    """
    Return the images that nobody uses, in the order they are to go.

    Args:
        listing: What `LIST` printed.
        keep: Names and patterns of images that stay.

    Raises:
        ValueError: It is not such a listing.
    """
    head, found, text = f"\n{listing}".partition("\nimages\n")
    if not found:
        msg = "the list of images is missing"
        raise ValueError(msg)
    used, named = _claims([line for line in head.split("\n") if line])
    images = [_Image.model_validate(entry) for entry in _list(text)]
    free = [
        image
        for image in images
        if _bare(image.id) not in used
        and not _is_wanted(image, named)
        and not _is_kept(image, keep)
    ]
    free.sort(key=lambda image: (bool(image.names), -image.size_bytes, image.id))
    return [
        Removable(id=image.id, names=tuple(image.tags), size_bytes=image.size_bytes)
        for image in free
    ]


def _claims(lines: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return the ids that containers use, and the names that sandboxes name."""
    used, named = set(), set()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "named":
            named.add(canonical(rest))
        elif word == "used" and _ID.fullmatch(rest):
            used.add(_bare(rest))
        elif line == "used ":
            # A container may have a directory for its root and no image.
            continue
        else:
            # NOTE: half understood, an image that is used would be taken for unused.
            msg = f"{line[:60]!r} was not expected"
            raise ValueError(msg)
    return used, named


def _is_wanted(image: _Image, named: Collection[str]) -> bool:
    """Tell whether a sandbox names it, or it is part of one, or its names make no sense."""
    labels = image.config.labels if image.config is not None else {}
    ours = any(label.startswith(f"{GROUP}/") for label in labels)
    built = any(_BUILT_FOR_A_SANDBOX.match(name) for name in image.names)
    strange = not _ID.fullmatch(image.id) or not all(map(_NAME.fullmatch, image.names))
    return ours or built or strange or any(canonical(name) in named for name in image.names)


def _is_kept(image: _Image, keep: Collection[str]) -> bool:
    return any(matches(name, pattern) for pattern in keep for name in image.names)


def _list(text: str) -> list[Any]:
    raw = json.loads(text)
    if not isinstance(raw, list):
        msg = "the images are no list"
        raise ValueError(msg)  # noqa: TRY004 - same class as json's own
    return raw


def _bare(image_id: str) -> str:
    """Return an id as podman prints it: docker puts the algorithm before it."""
    return image_id.removeprefix("sha256:")


async def _remove(session: Session, unused: Sequence[Removable], free_bytes: int) -> Pruned:
    if not unused:
        return Pruned()
    facts = session.facts
    lines = [" ".join((image.id, *image.names)) for image in unused]
    done = await session.script(
        REMOVE, facts.engine, facts.engine_store, str(-(-free_bytes // 1024)),
        str(_REMOVALS_LIMIT_S), stdin="".join(f"{line}\n" for line in lines).encode(),
        timeout_s=_TIMEOUT_S,
    )  # fmt: skip
    if done.exit_status:
        raise TransientError(
            f"Host {session.host} cannot say how full {facts.engine_store} is: "
            f"{done.error_text(200)}",
            reason="PruneFailed",
        )
    return _judged(done.stdout.decode("ascii", "replace"), unused)


def _judged(printed: str, unused: Iterable[Removable]) -> Pruned:
    told = [tuple(line.split(" ", 1)) for line in printed.splitlines() if " " in line]
    names = {image.id: (image.names or (image.id,))[0] for image in unused}
    free = [int(rest) * 1024 for word, rest in told if word == "free" and rest.isdecimal()]
    return Pruned(
        removed=tuple(names[rest] for word, rest in told if word == "removed" and rest in names),
        kept=sum(word == "kept" for word, _rest in told),
        freed_bytes=max(0, free[-1] - free[0]) if free else 0,
    )


def _unreadable(session: Session, why: str) -> TransientError:
    return TransientError(
        f"{session.facts.engine} on host {session.host} cannot say which images are used: {why}",
        reason="PruneFailed",
    )
