"""
The extensions of this process, found by entry point and by nothing else.

Our own backends enter by the same door as a foreign one. An extension that cannot be loaded is a
sentence in `Registry.problems` and never the end of the process: the others go on working, and the
sandboxes of the broken one are held, not forgotten.

Design note: entry points are read once, at start. Installing an extension asks for a restart;
importing new code into a running controller was refused, because half of it would be the old one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import get_args

from sandboxer.extension import Capability, Extension, Inputs
from sandboxer.kinds.meta import NAME_PATTERN

GROUP = "sandboxer.extensions"
"""Entry point group an extension's distribution names in its pyproject.toml."""

# Methods that must be overridden for a capability; `suspend` is two.
_METHODS: Mapping[Capability, tuple[str, ...]] = {
    "suspend": ("suspend", "resume"),
    "exec": ("exec",),
    "logs": ("logs",),
    "forward": ("forward",),
    "watch": ("watch",),
    "prune": ("prune",),
    "removal": ("removal",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One extension and where it comes from."""

    extension: Extension
    distribution: str
    """Name of the distribution that provides it, empty when it cannot be told."""
    version: str
    """Version of that distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What was found; every name is in exactly one of the two mappings."""

    loaded: Mapping[str, Loaded]
    """Working extensions by name."""
    problems: Mapping[str, str]
    """Why an extension could not be loaded, as a sentence, by name."""

    @property
    def extensions(self) -> dict[str, Extension]:
        """The working extensions by name."""
        return {name: loaded.extension for name, loaded in self.loaded.items()}


class _BrokenExtensionError(Exception):
    """An entry point gives no usable extension; the message is the sentence for a person."""


def load_registry(found: Iterable[EntryPoint] | None = None) -> Registry:
    """
    Load every installed extension.

    Args:
        found: Entry points to load; None means all that are installed.
    """
    points = entry_points(group=GROUP) if found is None else found
    loaded: dict[str, Loaded] = {}
    problems: dict[str, str] = {}
    for point in sorted(points, key=lambda point: point.name):
        if point.name in loaded or point.name in problems:
            loaded.pop(point.name, None)
            problems[point.name] = (
                f"Two distributions provide {point.name}; the second is {_origin(point)[0]}. "
                "Uninstall one of them."
            )
            continue
        try:
            loaded[point.name] = _load(point)
        except _BrokenExtensionError as error:
            problems[point.name] = f"{point.name} ({point.value}) {error}"
    return Registry(loaded=loaded, problems=problems)


def _load(point: EntryPoint) -> Loaded:
    class_ = _imported(point)
    if not (isinstance(class_, type) and issubclass(class_, Extension)):
        raise _BrokenExtensionError("is not a subclass of sandboxer.extension.Extension.")
    _check_declarations(point.name, class_)
    distribution, version = _origin(point)
    return Loaded(extension=_made(class_), distribution=distribution, version=version)


def _imported(point: EntryPoint) -> object:
    try:
        return point.load()
    # Foreign code: whatever its import raises, SystemExit included, is its own problem.
    except (Exception, SystemExit) as error:
        raise _BrokenExtensionError(f"cannot be imported: {_told(error)}") from error


def _made(class_: type[Extension]) -> Extension:
    try:
        return class_()
    except (Exception, SystemExit) as error:
        raise _BrokenExtensionError(f"cannot be made without arguments: {_told(error)}") from error


def _check_declarations(name: str, class_: type[Extension]) -> None:
    """Check what an author can get wrong without noticing."""
    declared = getattr(class_, "name", None)
    if declared != name:
        raise _BrokenExtensionError(f"calls itself {declared!r}; both names must be equal.")
    if not re.fullmatch(NAME_PATTERN, name):
        raise _BrokenExtensionError("has a name that no object may have; write it like ext.mine.")
    model = class_.inputs_model
    if not (isinstance(model, type) and issubclass(model, Inputs)):
        raise _BrokenExtensionError("has an inputs_model that is not a subclass of Inputs.")
    unknown = sorted(set(class_.capabilities) - set(get_args(Capability)))
    if unknown:
        raise _BrokenExtensionError(f"declares capabilities nobody knows: {', '.join(unknown)}.")
    missing = [method for method in _promised(class_) if not _overrides(class_, method)]
    if missing:
        raise _BrokenExtensionError(
            f"declares {', '.join(sorted(class_.capabilities))} "
            f"and does not implement {', '.join(missing)}."
        )


def _promised(class_: type[Extension]) -> list[str]:
    return [name for capability in sorted(class_.capabilities) for name in _METHODS[capability]]


def _overrides(class_: type[Extension], method: str) -> bool:
    return getattr(class_, method) is not getattr(Extension, method)


def _origin(point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution, both empty when it cannot be told."""
    distribution = point.dist
    return (distribution.name, distribution.version) if distribution else ("", "")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")
