"""Passes over Profiles and Extensions: are they valid, are they loaded, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from sandboxer.clock import Clock
from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.inputs import schema_validator
from sandboxer.engine.outcome import Done
from sandboxer.engine.story import catalog_news
from sandboxer.errors import InvalidSpecError, TransientError
from sandboxer.kinds.meta import Key, Resource, Status
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.registration import Extension
from sandboxer.registry import Registry
from sandboxer.store import EventRecorder, Store

Catalogued = TypeVar("Catalogued", Profile, Extension)


@dataclass(kw_only=True)
class ProfilePass:
    """Says whether a profile can be used."""

    store: Store
    registry: Registry
    events: EventRecorder
    clock: Clock

    async def reconcile(self, key: Key) -> Done:
        """State whether the profile is valid."""
        profile = self.store.get(Profile, key.name)
        if profile is not None:
            await _write(profile, profile.status, self._fact(profile), self)
        return Done()

    async def failed(self, key: Key, error: TransientError) -> None:
        """Record an error that nobody expected."""
        profile = self.store.get(Profile, key.name)
        if profile is not None:
            await _write(profile, profile.status, Fact("False", error.reason, str(error)), self)

    def _fact(self, profile: Profile) -> Fact:
        try:
            schema_validator(profile.spec.inputs_schema, profile.metadata.name)
        except InvalidSpecError as error:
            return Fact("False", error.reason, str(error))
        names = [candidate.extension for candidate in profile.spec.candidates]
        missing = [name for name in names if name not in self.registry.extensions]
        if len(missing) == len(names):
            return Fact(
                "False", "NoExtension", f"None of its extensions is loaded: {', '.join(names)}."
            )
        if missing:
            return Fact("True", "Valid", f"It can be used; not loaded: {', '.join(missing)}.")
        return Fact("True", "Valid", "It can be used.")


@dataclass(kw_only=True)
class ExtensionPass:
    """Says whether a registered extension is loaded, and what it can do."""

    store: Store
    registry: Registry
    events: EventRecorder
    clock: Clock

    async def reconcile(self, key: Key) -> Done:
        """State whether the extension is loaded."""
        registration = self.store.get(Extension, key.name)
        if registration is None:
            return Done()
        name = registration.spec.entry_point or key.name
        extension = self.registry.extensions.get(name)
        if extension is None:
            problem = self.registry.problems.get(name) or f"No installed package provides {name}."
            fact = Fact("False", "NotLoaded", problem)
            await _write(registration, registration.status, fact, self)
            return Done()
        source = self.registry.loaded[name]
        status = registration.status.model_copy(
            update={
                "version": source.version,
                "distribution": source.distribution,
                "capabilities": tuple(sorted(extension.capabilities)),
                "inputs_schema": extension.inputs_model.model_json_schema(),
            }
        )
        fact = Fact("True", "Loaded", f"Loaded from {source.distribution} {source.version}.")
        await _write(registration, status, fact, self)
        return Done()

    async def failed(self, key: Key, error: TransientError) -> None:
        """Record an error that nobody expected."""
        registration = self.store.get(Extension, key.name)
        if registration is not None:
            fact = Fact("False", error.reason, str(error))
            await _write(registration, registration.status, fact, self)


async def _write(
    obj: Catalogued, status: Status, fact: Fact, recorder: ProfilePass | ExtensionPass
) -> None:
    generation, now = obj.metadata.generation, recorder.clock.now()
    after = stated(status, {"Ready": fact}, generation=generation, now=now)
    if after == obj.status:
        return
    stored: Resource = await recorder.store.update_status(obj.model_copy(update={"status": after}))
    for item in catalog_news(obj.status, after):
        await recorder.events.record(stored, item.reason, item.message, type=item.type)
