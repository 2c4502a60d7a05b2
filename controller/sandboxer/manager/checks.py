"""What can be said about manifests before anything is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sandboxer.engine.desired import resolve
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.registry import Registry
from sandboxer.sources.builtin import builtin_profiles


def problems_of(
    resources: Sequence[Resource], stored: Iterable[Profile], registry: Registry
) -> list[str]:
    """
    Return one sentence for each sandbox whose profile is unknown or refuses its inputs.

    Args:
        resources: Manifests that were read without error.
        stored: Profiles of the store; those among *resources* go over them, both over the shipped.
        registry: Loaded extensions.
    """
    named = [r for r in resources if isinstance(r, Profile)]
    profiles = {p.metadata.name: p for p in (*builtin_profiles(), *stored, *named)}
    problems = []
    for sandbox in resources:
        if isinstance(sandbox, Sandbox):
            try:
                resolve(sandbox, profiles.get(sandbox.spec.profile), registry.extensions)
            except InvalidSpecError as error:
                problems.append(f"sandbox/{sandbox.metadata.name}: {error}")
    return problems
