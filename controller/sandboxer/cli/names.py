"""Names people type (`sbx/hello`, `sandboxes`, a uid prefix) and the objects they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from sandboxer.cli.suggest import did_you_mean
from sandboxer.errors import NotFoundError
from sandboxer.kinds.catalog import KINDS, find_kind, kind_words
from sandboxer.kinds.meta import API_VERSION, Resource
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.client.client import Client

# A uid prefix shorter than this is more likely a mistyped name.
MIN_UID_PREFIX = 4


class Reference(NamedTuple):
    """One object as it was typed: its kind, and a name, or none for all of the kind."""

    kind: type[Resource]
    name: str


def kind_called(word: str) -> type[Resource]:
    """
    Return the kind called *word*.

    Raises:
        click.UsageError: There is none; the message names the nearest.
    """
    kind = find_kind(word)
    if kind is None:
        plurals = [model.plural for model in KINDS.values()]
        near = did_you_mean(word, kind_words())
        hint = near if near.startswith("Did") else did_you_mean("", plurals)
        raise click.UsageError(f'there is no kind called "{word}". {hint}')
    return kind


def references(words: Sequence[str]) -> list[Reference]:
    """
    Read `KIND`, `KIND,KIND`, `KIND NAME…` or `KIND/NAME…`; `all` is every kind but events.

    Raises:
        click.UsageError: The words fit none of these forms, or name an unknown kind.
    """
    if not words:
        raise click.UsageError("name a kind, for example: sandboxes")
    if any("/" in word for word in words):
        return [_slashed(word) for word in words]
    kinds = _kinds(words[0])
    if len(words) == 1:
        return [Reference(kind, "") for kind in kinds]
    return [Reference(kind, name) for kind in kinds for name in words[1:]]


def _slashed(word: str) -> Reference:
    kind, slash, name = word.partition("/")
    if not slash or not name or "/" in name:
        raise click.UsageError(f'"{word}" is not KIND/NAME')
    return Reference(kind_called(kind), name)


def _kinds(word: str) -> list[type[Resource]]:
    if word == "all":
        return [kind for kind in KINDS.values() if _is_ours(kind)]
    return [kind_called(part) for part in word.split(",")]


def _is_ours(kind: type[Resource]) -> bool:
    """Tell whether a kind is of our group, and not one of Kubernetes' that we serve too."""
    return bool(kind.model_fields["api_version"].default == API_VERSION)


def reference_text(resource: Resource) -> str:
    """Return `sandbox/hello`, the form that every verb accepts."""
    return f"{resource.kind.lower()}/{resource.metadata.name}"


async def get_object(client: Client, reference: Reference, namespace: str) -> Resource:
    """
    Return one object by name; a Sandbox also by its uid or the beginning of it.

    Raises:
        NotFoundError: There is none; the remedy names the nearest.
    """
    kind = reference.kind
    found = await client.get(kind, reference.name, namespace if kind.namespaced else "")
    if found is not None:
        return found
    everywhere = (await client.list(kind)).items
    if kind is Sandbox and (by_uid := _by_uid(everywhere, reference.name)) is not None:
        return by_uid
    raise _not_found(everywhere, reference, namespace)


async def get_sandbox(client: Client, name: str, namespace: str) -> Sandbox:
    """
    Return a sandbox by name, `sbx/NAME`, uid or uid prefix.

    Raises:
        NotFoundError: There is none, or the prefix fits several.
    """
    reference = _slashed(name) if "/" in name else Reference(Sandbox, name)
    found = await get_object(client, reference, namespace)
    if not isinstance(found, Sandbox):
        raise click.UsageError(f"{name} is a {found.kind}, and this verb takes a sandbox")
    return found


def _by_uid(sandboxes: Sequence[Resource], prefix: str) -> Resource | None:
    prefix = prefix.removeprefix("sbx-")
    if len(prefix) < MIN_UID_PREFIX:
        return None
    # NOTE: `sbx-` names carry twelve hex digits without the dashes of the uid.
    wanted = prefix.replace("-", "")
    found = [s for s in sandboxes if s.metadata.uid.replace("-", "").startswith(wanted)]
    if len(found) > 1:
        names = sorted(f"{s.key.namespace}/{s.key.name}" for s in found)
        raise NotFoundError(
            f"The ID {prefix} fits {len(found)} sandboxes: {', '.join(names[:5])}.",
            reason="Ambiguous",
            remedy="Type more of it, or use the name.",
        )
    return found[0] if found else None


def _not_found(
    everywhere: Sequence[Resource], reference: Reference, namespace: str
) -> NotFoundError:
    kind = reference.kind
    word = kind.model_fields["kind"].default.lower()
    where = f" in namespace {namespace}" if kind.namespaced else ""
    keys = [resource.key for resource in everywhere]
    elsewhere = sorted(key.namespace for key in keys if key.name == reference.name)
    here = [key.name for key in keys if not kind.namespaced or key.namespace == namespace]
    if elsewhere:
        hint = f"There is one in namespace {elsewhere[0]}: add -n {elsewhere[0]}."
    else:
        hint = did_you_mean(reference.name, sorted(here))
    return NotFoundError(f'There is no {word} called "{reference.name}"{where}.', remedy=hint)
