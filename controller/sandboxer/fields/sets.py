"""
A set of field paths, as a tree; FieldsV1 is its JSON.

    {"f:spec": {"f:driftPolicy": {}, "f:env": {"f:A": {}}}}

A path belongs to the set when its node says so (`.`, or having nothing below), not because of what
is below it: who owns `.spec.env.A` owns neither `.spec` nor `.spec.env`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sandboxer.fields import elements

Tree = dict[str, Any]
Path = tuple[str, ...]

# Levels. Anybody may send FieldsV1, and each level is a level of recursion here; schemas of ours
# have eight, and `shapes.MAX_OPEN_DEPTH` bounds what stands where there is no schema.
MAX_DEPTH: Final = 64

_ITSELF: Final = "."


@dataclass(slots=True)  # not frozen: that doubles the time of making one
class FieldSet:
    """The paths at and below one node; never changed, only made anew."""

    member: bool = False
    """Whether the path that leads here is in the set."""
    children: Mapping[str, FieldSet] = field(default_factory=dict)
    """By step; none of them is empty."""

    @classmethod
    def from_json(cls, tree: Any) -> FieldSet:
        """
        Read FieldsV1.

        Raises:
            ValueError: It is none, or deeper than `MAX_DEPTH`.
        """
        try:
            return _read(tree, MAX_DEPTH, is_root=True)
        except RecursionError as error:  # of the JSON inside a step
            msg = "is nested too deeply"
            raise ValueError(msg) from error

    def to_json(self) -> Tree:
        """Return FieldsV1, in a fixed order."""
        if not self.children:
            return {}
        tree: Tree = {_ITSELF: {}} if self.member else {}
        for step in sorted(self.children):
            tree[step] = self.children[step].to_json()
        return tree

    def __bool__(self) -> bool:
        """Tell whether there is any path in it."""
        return self.member or bool(self.children)

    def __or__(self, other: FieldSet) -> FieldSet:
        """Return the paths that are in either."""
        children = dict(self.children)
        for step, theirs in other.children.items():
            children[step] = children[step] | theirs if step in children else theirs
        return FieldSet(self.member or other.member, children)

    def __and__(self, other: FieldSet) -> FieldSet:
        """Return the paths that are in both."""
        shared = self.children.keys() & other.children.keys()
        children = {step: self.children[step] & other.children[step] for step in shared}
        return FieldSet(self.member and other.member, _filled(children))

    def __sub__(self, other: FieldSet) -> FieldSet:
        """Return the paths that are not in *other*."""
        if not other:
            return self
        children = {step: node - other.at(step) for step, node in self.children.items()}
        return FieldSet(self.member and not other.member, _filled(children))

    def without(self, other: FieldSet) -> FieldSet:
        """Return the paths that are neither in *other* nor below one that is."""
        if other.member:
            return EMPTY
        if not other.children:
            return self
        children = {step: node.without(other.at(step)) for step, node in self.children.items()}
        return FieldSet(self.member, _filled(children))

    def at(self, step: str) -> FieldSet:
        """Return the paths that begin with *step*, without it."""
        return self.children.get(step, EMPTY)

    def has(self, path: Sequence[str]) -> bool:
        """Tell whether exactly this path is in the set."""
        node = self
        for step in path:
            node = node.at(step)
        return node.member

    def paths(self) -> Iterator[Path]:
        """Yield every path, in a fixed order."""
        if self.member:
            yield ()
        for step in sorted(self.children):
            for rest in self.children[step].paths():
                yield (step, *rest)

    def texts(self) -> Iterator[str]:
        """Yield every path as a person reads it: `.spec.ports[name="web"].containerPort`."""
        for path in self.paths():
            yield "".join(elements.text(step) for step in path)


EMPTY: Final = FieldSet()
HERE: Final = FieldSet(member=True)
"""The set of the path that leads to it, alone."""


def _filled(children: Mapping[str, FieldSet]) -> Mapping[str, FieldSet]:
    return {step: node for step, node in children.items() if node}


def _read(tree: Any, depth: int, *, is_root: bool = False) -> FieldSet:
    if not isinstance(tree, dict) or depth < 0:
        msg = "is no tree of fields" if depth >= 0 else f"is deeper than {MAX_DEPTH} levels"
        raise ValueError(msg)
    if not tree:
        return EMPTY if is_root else HERE
    children = {
        elements.canonical(step): _read(below, depth - 1)
        for step, below in tree.items()
        if step != _ITSELF
    }
    return FieldSet(not is_root and (_ITSELF in tree or not children), children)
