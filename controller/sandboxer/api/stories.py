"""
What happened to a sandbox, read from the store when somebody asks; reading only.

    GET …/namespaces/NAMESPACE/sandboxes/NAME/story   of the living one, else of the newest gone
        ?all=true                                     of both, and of all that had the name
    GET …/tombstones, …/namespaces/NAMESPACE/tombstones

NAME may be a uid, its first eight digits or more, or `sbx-` and its first twelve, as on a host;
then no namespace matters.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api.answers import StatusError, json_response
from sandboxer.api.entering import flag, number
from sandboxer.api.targets import store_of
from sandboxer.kinds.meta import API_VERSION, Key
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.kinds.story import SandboxStory, StoryOfOne, Tombstone, TombstoneList
from sandboxer.store import Entry, Store
from sandboxer.store.entries import decode

# Sandboxes of one name whose stories are told at once: a loop that makes the same sandbox every
# minute leaves thousands.
MAX_STORIES: Final = 50

# Tombstones listed unless the query says otherwise, and at most.
_LISTED: Final = 500
_MAX_LISTED: Final = 10_000

_UID: Final = re.compile(r"(?:sbx-)?([0-9a-f-]{8,36})", re.ASCII)
# Digits of the five groups of a uid.
_GROUPS: Final = (8, 4, 4, 4, 12)


async def _story(request: Request) -> Response:
    store, namespace = store_of(request), request.path_params["namespace"]
    name = request.path_params["name"]
    wants_all = flag(request, "all")
    living = _living(store, namespace, name)
    stories = [await _of_living(store, entry) for entry in living]
    if wants_all or not stories:
        limit = MAX_STORIES if wants_all else 1
        gone = await _tombstones(store, namespace, name, limit)
        stories += [await _of_gone(store, each) for each in gone]
    if not stories:
        details = {"name": name, "group": "sandboxer.dev", "kind": Sandbox.plural}
        message = f'sandboxes.sandboxer.dev "{name}" not found, and none of that name is remembered'
        raise StatusError(404, message, details=details)
    return json_response(SandboxStory(items=tuple(stories)).to_document())


def _living(store: Store, namespace: str, name: str) -> list[Entry]:
    entry = store.entry(Key("Sandbox", namespace, name))
    if entry is not None:
        return [entry]
    beginning = _uid(name)
    if not beginning:
        return []
    found = [each for each in store.entries("Sandbox") if each.uid.startswith(beginning)]
    return found[:MAX_STORIES]


async def _tombstones(store: Store, namespace: str, name: str, limit: int) -> list[Tombstone]:
    """Return the newest of a name, or of a uid when none had the name."""
    named = await store.tombstones(namespace, name, limit=limit)
    if named or not (beginning := _uid(name)):
        return named
    return await store.tombstones(uid=beginning, limit=limit)


def _uid(name: str) -> str:
    """Return the beginning of a uid that is meant, with its dashes; empty when none is."""
    if (match := _UID.fullmatch(name)) is None:
        return ""
    digits, groups = match[1].replace("-", ""), []
    for length in _GROUPS:
        groups.append(digits[:length])
        digits = digits[length:]
    return "-".join(filter(None, groups))


async def _of_living(store: Store, entry: Entry) -> StoryOfOne:
    sandbox = decode(Sandbox, entry.key, entry.body)
    status, metadata = sandbox.status, sandbox.metadata
    return StoryOfOne(
        uid=entry.uid,
        namespace=entry.key.namespace,
        name=entry.key.name,
        phase=status.phase,
        profile=sandbox.spec.profile,
        extension=status.extension,
        host=status.host,
        placement_reason=status.placement_reason,
        created_at=metadata.creation_timestamp,
        expires_at=status.expires_at,
        conditions=status.conditions,
        transitions=tuple(await store.transitions(entry.uid)),
    )


async def _of_gone(store: Store, tombstone: Tombstone) -> StoryOfOne:
    return StoryOfOne(
        uid=tombstone.uid,
        namespace=tombstone.namespace,
        name=tombstone.name,
        profile=tombstone.profile,
        extension=tombstone.extension,
        host=tombstone.host,
        created_at=tombstone.created_at,
        tombstone=tombstone,
        transitions=tuple(await store.transitions(tombstone.uid)),
    )


async def _list(request: Request) -> Response:
    limit = number(request, "limit", least=1) or _LISTED
    namespace = request.path_params.get("namespace")
    found = await store_of(request).tombstones(namespace, limit=min(limit, _MAX_LISTED))
    return json_response(TombstoneList(items=tuple(found)).to_document())


_ROOT: Final = f"/apis/{API_VERSION}"
ROUTES = [
    Route(f"{_ROOT}/namespaces/{{namespace}}/{Sandbox.plural}/{{name}}/story", _story),
    Route(f"{_ROOT}/namespaces/{{namespace}}/tombstones", _list),
    Route(f"{_ROOT}/tombstones", _list),
]
