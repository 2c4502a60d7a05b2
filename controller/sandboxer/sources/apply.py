"""
Manifests into the store: what a manifest says is set, what it does not speak of is kept.

Who applies owns the fields the manifest names (`sandboxer.fields`, the same as server-side apply).
A field that was named before and is not any more is taken away, unless somebody else set it too.
`status`, finalizers and identity are never touched.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import yaml

from sandboxer.clock import SystemClock
from sandboxer.errors import ConflictError, InvalidSpecError, SandboxerError
from sandboxer.kinds.catalog import DECLARABLE_KINDS
from sandboxer.kinds.meta import LABEL_SOURCE, Key, Resource
from sandboxer.sources.merging import Author, Document, document_of, looks_same, merge
from sandboxer.store import Cause, Store
from sandboxer.store.operations import Create, Update, key_of

__all__ = [
    "LABEL_SOURCE",
    "Applied",
    "ApplyError",
    "Difference",
    "apply_resources",
    "diff_resources",
    "key_of_resource",
]

DEFAULT_MANAGER = "sandboxer"
"""Who a person's apply is noted as."""

# Somebody else has to write between our read and our write, this often, for an apply to give up.
_MAX_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did with one manifest."""

    key: Key
    result: Literal["created", "configured", "unchanged"]
    """`unchanged` also when nothing but the owners of fields changed."""
    resource: Resource
    """The object as it is stored now."""
    adopted: bool = False
    """It was there before and belonged to no source; now it belongs to this one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What an apply would change of one object."""

    key: Key
    text: str
    """Unified diff of the YAML, from what is stored to what would be; ends in a newline."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """One manifest, merged and ready to be written."""

    resource: Resource
    """The object as it should be stored."""
    live: Document | None
    """What is stored now."""
    adopts: bool

    def operation(self, source: str) -> Create | Update:
        cause = Cause(f"source/{source}", "manifest") if source else Cause("user/local", "request")
        return (Create if self.live is None else Update)(self.resource, cause)

    def done(self, key: Key, stored: Resource) -> Applied:
        if self.live is None:
            return Applied(key, "created", stored)
        result: Literal["configured", "unchanged"] = (
            "unchanged" if looks_same(self.live, stored) else "configured"
        )
        return Applied(key, result, stored, self.adopts)


class ApplyError(SandboxerError):
    """
    Some manifests could not be applied; the others were.

    Args:
        refused: Why, by object; not empty.
        applied: What was done with the others.
    """

    default_reason = "ApplyRefused"

    def __init__(self, refused: Mapping[Key, SandboxerError], applied: Sequence[Applied]) -> None:
        self.refused = dict(refused)
        self.applied = list(applied)
        total = len(self.refused) + len(self.applied)
        head = f"{len(self.refused)} of {total} manifests were not applied:\n" if total > 1 else ""
        super().__init__(head + "\n".join(str(error) for error in self.refused.values()))


async def apply_resources(
    store: Store,
    resources: Sequence[Resource],
    *,
    source: str = "",
    manager: str = DEFAULT_MANAGER,
    force: bool = False,
    dry_run: bool = False,
) -> list[Applied]:
    """
    Create or change the objects the manifests describe, in one transaction; never delete one.

    Args:
        store: Where they are kept.
        resources: Manifests; their status and everything the store owns is ignored.
        source: Id of the source they come from (a label value), empty for a person's own apply.
        manager: Who owns the fields that the manifests name.
        force: Take fields that others own, instead of refusing.
        dry_run: Judge and tell, and write nothing.

    Returns:
        One entry per manifest, in the order given.

    Raises:
        InvalidSpecError: Two manifests describe the same object; nothing was applied.
        ApplyError: Some were refused: being deleted, owned by another source, fields of other
            managers, changed again and again by somebody else, or refused by the store.
    """
    wanted = _by_key(resources)
    author = Author(manager=manager, source=source, force=force, now=SystemClock().now())
    outcomes: dict[Key, Applied | SandboxerError] = {}
    for _ in range(_MAX_ROUNDS):
        pending = {key: wanted[key] for key in wanted if _is_open(outcomes.get(key))}
        if not pending:
            break
        outcomes.update(await _apply_once(store, pending, author, dry_run=dry_run))
    applied = [outcome for outcome in outcomes.values() if isinstance(outcome, Applied)]
    refused = {key: out for key, out in outcomes.items() if isinstance(out, SandboxerError)}
    if refused:
        raise ApplyError(refused, applied)
    in_order = {entry.key: entry for entry in applied}
    return [in_order[key_of_resource(resource)] for resource in resources]


def diff_resources(
    store: Store,
    resources: Sequence[Resource],
    *,
    source: str = "",
    manager: str = DEFAULT_MANAGER,
    force: bool = False,
) -> list[Difference]:
    """
    Return what `apply_resources` would change; nothing is written, equal objects are left out.

    Raises:
        InvalidSpecError: Two manifests describe the same object, or one would be refused.
    """
    author = Author(manager=manager, source=source, force=force, now=SystemClock().now())
    differences = []
    for key, manifest in _by_key(resources).items():
        entry = store.entry(key)
        live = document_of(entry) if entry is not None else None
        merged = merge(live, manifest, key, author)
        before = _shown(live) if live is not None else ""
        after = _shown(merged.to_document()) if merged is not None else before
        if before != after:
            differences.append(Difference(key, _unified(key, before, after)))
    return differences


def key_of_resource(resource: Resource) -> Key:
    """Return the key under which the store keeps the resource, its default namespace filled in."""
    metadata = resource.metadata
    return key_of(type(resource), metadata.name, metadata.namespace or "")


def _is_open(outcome: Applied | SandboxerError | None) -> bool:
    return outcome is None or isinstance(outcome, ConflictError)


def _by_key(resources: Iterable[Resource]) -> dict[Key, Resource]:
    """Return the manifests by key, in the order they must be applied (profiles before sandboxes)."""
    ordered = sorted(resources, key=lambda resource: DECLARABLE_KINDS.index(resource.kind))
    wanted: dict[Key, Resource] = {}
    for resource in ordered:
        key = key_of_resource(resource)
        if key in wanted:
            raise InvalidSpecError(
                f"{key} is described twice.", remedy="Remove one of the two manifests."
            )
        wanted[key] = resource
    return wanted


async def _apply_once(
    store: Store, wanted: Mapping[Key, Resource], author: Author, *, dry_run: bool
) -> dict[Key, Applied | SandboxerError]:
    outcomes: dict[Key, Applied | SandboxerError] = {}
    planned: dict[Key, _Planned] = {}
    for key, manifest in wanted.items():
        try:
            plan = _planned(store, key, manifest, author)
        except InvalidSpecError as refusal:
            outcomes[key] = refusal
            continue
        if isinstance(plan, _Planned):
            planned[key] = plan
        else:
            outcomes[key] = plan
    operations = [plan.operation(author.source) for plan in planned.values()]
    results = await store.write(operations, dry_run=dry_run) if operations else []
    for (key, plan), result in zip(planned.items(), results, strict=True):
        assert result is not None  # neither Create nor Update removes an object
        if isinstance(result, SandboxerError):
            outcomes[key] = result
        else:
            outcomes[key] = plan.done(key, result)
    return outcomes


def _planned(store: Store, key: Key, manifest: Resource, author: Author) -> _Planned | Applied:
    entry = store.entry(key)
    if entry is None:
        merged = merge(None, manifest, key, author)
        assert merged is not None  # an object that is not there is made
        return _Planned(merged, None, adopts=False)
    live = document_of(entry)
    _check_allowed(key, live, author.source)
    merged = merge(live, manifest, key, author)
    if merged is None:
        stored = store.get(type(manifest), key.name, key.namespace)
        assert stored is not None  # nothing has been awaited since it was seen
        return Applied(key, "unchanged", stored)
    adopts = bool(author.source) and LABEL_SOURCE not in entry.labels
    return _Planned(merged, live, adopts)


def _check_allowed(key: Key, live: Document, source: str) -> None:
    metadata = live["metadata"]
    if "deletionTimestamp" in metadata:
        raise InvalidSpecError(
            f"{key} is being deleted and cannot be changed.",
            reason="BeingDeleted",
            remedy=f"Wait until it is gone (sandboxer wait --for=delete "
            f"{key.kind.lower()}/{key.name}) and apply again.",
        )
    owner = metadata.get("labels", {}).get(LABEL_SOURCE, "")
    if source and owner and owner != source:
        raise InvalidSpecError(
            f"{key} is applied by source {owner!r}, and {source!r} holds a manifest for it too.",
            reason="OtherSource",
            remedy=f"Remove one of the manifests, or the object's label {LABEL_SOURCE} to move it.",
        )


def _shown(document: Document) -> str:
    """Return the part of an object that its author writes, as YAML."""
    metadata = document["metadata"]
    told = ("name", "namespace", "labels", "annotations")
    shown = {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": {name: metadata[name] for name in told if metadata.get(name)},
        "spec": document.get("spec", {}),
    }
    text: str = yaml.safe_dump(shown, sort_keys=False, width=1000, allow_unicode=True)
    return text


def _unified(key: Key, before: str, after: str) -> str:
    name = f"{key.kind.lower()}/{key.namespace}/{key.name}".replace("//", "/")
    old = f"stored/{name}" if before else "/dev/null"
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), old, f"manifest/{name}"
    )
    return "".join(lines)
