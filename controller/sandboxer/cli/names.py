"""Names people type (`sbx/hello`, `sandboxes`, a uid prefix) and the objects they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from sandboxer.cli.suggest import did_you_mean
from sandboxer.errors import NotFoundError
from sandboxer.kinds.catalog import KINDS, find_kind, kind_words
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.store import Store

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
        return [kind for name, kind in KINDS.items() if name != "Event"]
    return [kind_called(part) for part in word.split(",")]


def reference_text(resource: Resource) -> str:
    """Return `sandbox/hello`, the form that every verb accepts."""
    return f"{resource.kind.lower()}/{resource.metadata.name}"


def get_object(store: Store, reference: Reference, namespace: str) -> Resource:
    """
    Return one object by name; a Sandbox also by its uid or the beginning of it.

    Raises:
        NotFoundError: There is none; the remedy names the nearest.
    """
    kind = reference.kind
    found = store.get(kind, reference.name, namespace if kind.namespaced else "")
    if found is not None:
        return found
    if kind is Sandbox and (by_uid := _by_uid(store, reference.name)) is not None:
        return by_uid
    raise _not_found(store, reference, namespace)


def get_sandbox(store: Store, name: str, namespace: str) -> Sandbox:
    """
    Return a sandbox by name, `sbx/NAME`, uid or uid prefix.

    Raises:
        NotFoundError: There is none, or the prefix fits several.
    """
    reference = _slashed(name) if "/" in name else Reference(Sandbox, name)
    found = get_object(store, reference, namespace)
    if not isinstance(found, Sandbox):
        raise click.UsageError(f"{name} is a {found.kind}, and this verb takes a sandbox")
    return found


def _by_uid(store: Store, prefix: str) -> Sandbox | None:
    prefix = prefix.removeprefix("sbx-")
    if len(prefix) < MIN_UID_PREFIX:
        return None
    # NOTE: `sbx-` names carry twelve hex digits without the dashes of the uid.
    wanted = prefix.replace("-", "")
    keys = [
        entry.key
        for entry in store.entries("Sandbox")
        if entry.uid.replace("-", "").startswith(wanted)
    ]
    if len(keys) > 1:
        raise NotFoundError(
            f"The ID {prefix} fits {len(keys)} sandboxes: "
            f"{', '.join(sorted(f'{key.namespace}/{key.name}' for key in keys)[:5])}.",
            reason="Ambiguous",
            remedy="Type more of it, or use the name.",
        )
    return store.get(Sandbox, keys[0].name, keys[0].namespace) if keys else None


def _not_found(store: Store, reference: Reference, namespace: str) -> NotFoundError:
    kind = reference.kind
    word = kind.model_fields["kind"].default.lower()
    where = f" in namespace {namespace}" if kind.namespaced else ""
    entries = list(store.entries(kind.model_fields["kind"].default))
    elsewhere = [e.key.namespace for e in entries if e.key.name == reference.name]
    here = [e.key.name for e in entries if not kind.namespaced or e.key.namespace == namespace]
    if elsewhere:
        hint = f"There is one in namespace {elsewhere[0]}: add -n {elsewhere[0]}."
    else:
        hint = did_you_mean(reference.name, sorted(here))
    return NotFoundError(f'There is no {word} called "{reference.name}"{where}.', remedy=hint)
