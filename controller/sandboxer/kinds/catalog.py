"""All kinds, and how a name typed by a person (`sbx`, `sandboxes`, `Sandbox`) finds one."""

from __future__ import annotations

from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.namespace import Namespace
from sandboxer.kinds.pool import SandboxPool
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.registration import Extension
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.kinds.secret import Secret

KINDS: dict[str, type[Resource]] = {
    "Sandbox": Sandbox,
    "SandboxPool": SandboxPool,
    "Host": Host,
    "Profile": Profile,
    "Extension": Extension,
    "Event": Event,
    "Namespace": Namespace,
    "Secret": Secret,
}
"""By kind, in the order `sandboxer get all` and `api-resources` show them."""

DECLARABLE_KINDS = ("Extension", "Host", "Profile", "Sandbox", "SandboxPool")
"""Kinds a manifest may hold, in the order they are applied: those of our own group."""


def find_kind(word: str) -> type[Resource] | None:
    """Return the kind called *word*: kind, plural, singular or short name, in any case."""
    wanted = word.lower()
    for kind, model in KINDS.items():
        if wanted in (kind.lower(), model.plural, *model.short_names):
            return model
    return None


def kind_words() -> list[str]:
    """Return every word `find_kind` understands, for completion and "did you mean"."""
    return [
        word
        for kind, model in KINDS.items()
        for word in (model.plural, kind.lower(), *model.short_names)
    ]
