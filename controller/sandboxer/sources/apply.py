"""
Manifests into the store: what a manifest says is set, what it does not speak of is kept.

`spec` is replaced as written. Labels and annotations are merged three ways: what the manifest has
is set, what an earlier apply set and this manifest dropped is removed, what others added stays.
Which keys an apply set is noted in the annotation `sandboxer.dev/last-applied`, names only, so the
values stand in one place. `status`, finalizers and identity are never touched.

Design notes: kubectl's own `last-applied-configuration` holds the whole document a second time;
names suffice here, because `spec` is not merged but replaced.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from sandboxer.errors import ConflictError, InvalidSpecError, SandboxerError
from sandboxer.kinds.catalog import DECLARABLE_KINDS
from sandboxer.kinds.meta import GROUP, Key, ObjectMeta, Resource
from sandboxer.store import Store
from sandboxer.store.operations import Create, Operation, Update, key_of

LAST_APPLIED = f"{GROUP}/last-applied"
"""Annotation: JSON with the names of the labels and annotations that the last apply set."""
LABEL_SOURCE = f"{GROUP}/source"
"""Label: id of the source that applies this object, and that alone may prune it."""

# Somebody else has to write between our read and our write, this often, for an apply to give up.
_MAX_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did with one manifest."""

    key: Key
    result: Literal["created", "configured", "unchanged"]
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
    store: Store, resources: Sequence[Resource], *, source: str = ""
) -> list[Applied]:
    """
    Create or change the objects the manifests describe, in one transaction; never delete one.

    Args:
        store: Where they are kept.
        resources: Manifests; their status and everything the store owns is ignored.
        source: Id of the source they come from (a label value), empty for a person's own apply.

    Returns:
        One entry per manifest, in the order given.

    Raises:
        InvalidSpecError: Two manifests describe the same object; nothing was applied.
        ApplyError: Some were refused: being deleted, owned by another source, changed again and
            again by somebody else, or refused by the store.
    """
    wanted = _by_key(resources)
    outcomes: dict[Key, Applied | SandboxerError] = {}
    for _ in range(_MAX_ROUNDS):
        pending = [key for key in wanted if _is_open(outcomes.get(key))]
        if not pending:
            break
        outcomes.update(await _apply_once(store, {key: wanted[key] for key in pending}, source))
    applied = [outcome for outcome in outcomes.values() if isinstance(outcome, Applied)]
    refused = {key: out for key, out in outcomes.items() if isinstance(out, SandboxerError)}
    if refused:
        raise ApplyError(refused, applied)
    in_order = {entry.key: entry for entry in applied}
    return [in_order[key_of_resource(resource)] for resource in resources]


def diff_resources(store: Store, resources: Sequence[Resource]) -> list[Difference]:
    """
    Return what `apply_resources` would change; nothing is written, equal objects are left out.

    Raises:
        InvalidSpecError: Two manifests describe the same object.
    """
    differences = []
    for key, manifest in _by_key(resources).items():
        live = store.get(type(manifest), key.name, key.namespace)
        before = _visible(live) if live is not None else ""
        after = _visible(_merged(live, manifest, "") if live is not None else manifest)
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
    store: Store, wanted: Mapping[Key, Resource], source: str
) -> dict[Key, Applied | SandboxerError]:
    outcomes: dict[Key, Applied | SandboxerError] = {}
    operations: dict[Key, Operation] = {}
    adopted: set[Key] = set()
    for key, manifest in wanted.items():
        live = store.get(type(manifest), key.name, key.namespace)
        if live is None:
            operations[key] = Create(_new(manifest, source))
        elif refusal := _refusal(key, live, source):
            outcomes[key] = refusal
        elif _is_same(merged := _merged(live, manifest, source), live):
            outcomes[key] = Applied(key, "unchanged", live)
        else:
            operations[key] = Update(merged)
            if source and LABEL_SOURCE not in live.metadata.labels:
                adopted.add(key)
    results = await store.write(list(operations.values())) if operations else []
    for (key, operation), result in zip(operations.items(), results, strict=True):
        if isinstance(result, SandboxerError):
            outcomes[key] = result
        else:
            assert result is not None  # neither Create nor Update removes an object
            done: Literal["created", "configured"] = (
                "created" if isinstance(operation, Create) else "configured"
            )
            outcomes[key] = Applied(key, done, result, key in adopted)
    return outcomes


def _is_same(merged: Resource, live: Resource) -> bool:
    # Python takes 1, 1.0 and True for equal, a manifest does not; its text tells them apart.
    if merged != live:
        return False
    if merged.model_dump_json() == live.model_dump_json():
        return True
    return _sorted_text(merged) == _sorted_text(live)


def _sorted_text(resource: Resource) -> str:
    return json.dumps(resource.to_document(), sort_keys=True)


def _refusal(key: Key, live: Resource, source: str) -> SandboxerError | None:
    if live.metadata.deletion_timestamp is not None:
        return InvalidSpecError(
            f"{key} is being deleted and cannot be changed.",
            reason="BeingDeleted",
            remedy=f"Wait until it is gone (sandboxer wait --for=delete "
            f"{key.kind.lower()}/{key.name}) and apply again.",
        )
    owner = live.metadata.labels.get(LABEL_SOURCE, "")
    if source and owner and owner != source:
        return InvalidSpecError(
            f"{key} is applied by source {owner!r}, and {source!r} holds a manifest for it too.",
            reason="OtherSource",
            remedy=f"Remove one of the manifests, or the object's label {LABEL_SOURCE} to move it.",
        )
    return None


def _new(manifest: Resource, source: str) -> Resource:
    """Return what a create stores: nothing of the manifest's status or server-owned fields."""
    labels, annotations = _own(manifest, source)
    metadata = ObjectMeta(
        name=manifest.metadata.name,
        namespace=manifest.metadata.namespace,
        labels=labels,
        annotations=_noted(annotations, manifest),
    )
    return manifest.model_copy(update={"metadata": metadata})


def _merged(live: Resource, manifest: Resource, source: str) -> Resource:
    """Return *live* with what the manifest says."""
    before = _last_applied(live)
    labels, annotations = _own(manifest, source)
    kept_labels = _without(live.metadata.labels, before["labels"])
    kept_annotations = _without(live.metadata.annotations, [*before["annotations"], LAST_APPLIED])
    metadata = live.metadata.model_copy(
        update={
            "labels": {**kept_labels, **labels},
            "annotations": _noted({**kept_annotations, **annotations}, manifest),
        }
    )
    return live.model_copy(update={"metadata": metadata, "spec": getattr(manifest, "spec", None)})


def _own(manifest: Resource, source: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the manifest's labels and annotations, with the source's mark."""
    # A manifest that was printed from the store carries our marks; they are not its author's.
    labels = _without(manifest.metadata.labels, [LABEL_SOURCE])
    annotations = _without(manifest.metadata.annotations, [LAST_APPLIED])
    return ({**labels, LABEL_SOURCE: source} if source else labels), annotations


def _noted(annotations: dict[str, str], manifest: Resource) -> dict[str, str]:
    labels, own = _own(manifest, "")
    if not labels and not own:
        return annotations
    note = json.dumps({"annotations": sorted(own), "labels": sorted(labels)})
    return {**annotations, LAST_APPLIED: note}


def _last_applied(live: Resource) -> dict[str, list[str]]:
    """Return the names noted by the last apply; none when the note is absent or was tampered with."""
    names: dict[str, list[str]] = {"labels": [], "annotations": []}
    try:
        note: Any = json.loads(live.metadata.annotations.get(LAST_APPLIED, "{}"))
    except ValueError:
        return names
    for part in names:
        noted = note.get(part) if isinstance(note, dict) else None
        if isinstance(noted, list):
            names[part] = [name for name in noted if isinstance(name, str)]
    return names


def _without(mapping: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    left_out = set(names)
    return {name: value for name, value in mapping.items() if name not in left_out}


def _visible(resource: Resource) -> str:
    """Return the part of an object that its author writes, as YAML."""
    document = resource.to_document()
    metadata = document["metadata"]
    annotations = _without(metadata.get("annotations", {}), [LAST_APPLIED])
    shown = {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": {
            "name": metadata["name"],
            **({"namespace": metadata["namespace"]} if metadata.get("namespace") else {}),
            **({"labels": metadata["labels"]} if metadata.get("labels") else {}),
            **({"annotations": annotations} if annotations else {}),
        },
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
