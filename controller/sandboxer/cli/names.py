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

# Digits of a uid that stand for it, as the API counts them: a sandbox of somebody else is not hit by
# a mistyped name.
MIN_UID_DIGITS = 8


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


async def find_object(client: Client, reference: Reference, namespace: str) -> Resource | None:
    """Return one object by its exact name; None when there is none."""
    kind = reference.kind
    return await client.get(kind, reference.name, namespace if kind.namespaced else "")


async def get_object(client: Client, reference: Reference, namespace: str) -> Resource:
    """
    Return one object by its exact name.

    Raises:
        NotFoundError: There is none; the remedy names the nearest.
    """
    found = await find_object(client, reference, namespace)
    if found is None:
        raise _not_found((await client.list(reference.kind)).items, reference, namespace)
    return found


async def get_sandbox(client: Client, name: str, namespace: str) -> Sandbox:
    """
    Return a sandbox by name or `sbx/NAME`, or in any namespace by its uid or the beginning of it.

    Raises:
        NotFoundError: There is none, or the prefix fits several.
        click.UsageError: Something else than a sandbox is named.
    """
    reference = Reference(Sandbox, sandbox_name(name))
    found = await client.get(Sandbox, reference.name, namespace)
    if found is not None:
        return found
    everywhere = (await client.list(Sandbox)).items
    by_uid = _by_uid(everywhere, reference.name) if "/" not in name else None
    if by_uid is None:
        raise _not_found(everywhere, reference, namespace)
    return by_uid


def sandbox_name(word: str) -> str:
    """
    Return the name in `NAME` or `sbx/NAME`.

    Raises:
        click.UsageError: It is of another kind, or not of this form.
    """
    if "/" not in word:
        return word
    before, _, name = word.partition("/")
    if before and name and find_kind(before) is None:
        raise click.UsageError(
            f'"{word}" is not NAME or sbx/NAME. For a namespace say: {name} -n {before}'
        )
    reference = _slashed(word)
    if reference.kind is not Sandbox:
        raise click.UsageError(
            f"{word} is a {reference.kind.__name__}, and this verb takes a sandbox"
        )
    return reference.name


def _by_uid(sandboxes: Sequence[Sandbox], prefix: str) -> Sandbox | None:
    # NOTE: `sbx-` names carry twelve hex digits without the dashes of the uid.
    digits = prefix.removeprefix("sbx-").replace("-", "")
    if len(digits) < MIN_UID_DIGITS:
        return None
    found = [s for s in sandboxes if s.metadata.uid.replace("-", "").startswith(digits)]
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
