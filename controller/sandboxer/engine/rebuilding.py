"""From a manifest and what is seen to the object that would have been there, pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sandboxer.engine.adopted import adopted
from sandboxer.engine.desired import build_instance, resolve
from sandboxer.errors import InvalidSpecError
from sandboxer.extension import LABEL_ENVIRONMENT, Extension, Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import FINALIZER, ObjectMeta
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Lifetime, Sandbox
from sandboxer.routing import Wish, placement_objection

# What is left of a lifetime that is over or nearly so: time for a person to extend it.
LEAST_LIFE = timedelta(hours=1)


class Rebuilt(NamedTuple):
    """An object that was lost."""

    sandbox: Sandbox
    """As it is to be stored."""
    remark: str = ""
    """What a person should know of it, in sentences."""
    objection: str = ""
    """Why it must not be stored so, as a sentence."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the document asks for with the profile there is now."""

    wish: Wish | None
    refusal: str = ""
    """Why that cannot be said."""


def rebuild(
    sandbox: Sandbox,
    seen: Observation,
    *,
    host: Host,
    profile: Profile | None,
    extensions: Mapping[str, Extension],
    now: datetime,
) -> Rebuilt:
    """
    Return the object of a sandbox that was lost.

    Args:
        sandbox: From its manifest.
        seen: What is there of it.
        host: Where.
        profile: The one it names, as far as there is one.
        extensions: All loaded extensions by name.
        now: Wall-clock time.
    """
    asked = _asked(sandbox, profile, extensions)
    lasting, remark = _lasting(_as_it_is(sandbox, seen), asked.wish, now)
    status = adopted(lasting, seen, host=host.metadata.name, now=now)
    remarks = (remark, asked.refusal or _difference(sandbox, seen, asked.wish))
    return Rebuilt(
        lasting.model_copy(update={"status": status}),
        " ".join(filter(None, remarks)),
        _misplaced(sandbox, asked.wish, host),
    )


def _asked(
    sandbox: Sandbox, profile: Profile | None, extensions: Mapping[str, Extension]
) -> _Asked:
    try:
        return _Asked(resolve(sandbox, profile, extensions))
    except InvalidSpecError as error:
        return _Asked(None, f"It will wait for a person: {error.message}")


def _as_it_is(sandbox: Sandbox, seen: Observation) -> Sandbox:
    """Return it with what the store keeps, and suspended exactly when it is."""
    # NOTE: a manifest is older than the last suspension, which changes nothing that is made.
    mode = "Suspended" if seen.state == "Suspended" else "Running"
    wanted = sandbox.metadata
    metadata = ObjectMeta(
        name=wanted.name,
        namespace=wanted.namespace,
        labels=wanted.labels,
        uid=wanted.uid,
        creation_timestamp=wanted.creation_timestamp,
        generation=1,
        finalizers=(FINALIZER,),
    )
    spec = sandbox.spec.model_copy(update={"operating_mode": mode})
    return sandbox.model_copy(update={"metadata": metadata, "spec": spec})


def _lasting(sandbox: Sandbox, wish: Wish | None, now: datetime) -> tuple[Sandbox, str]:
    """Return it with some time to live, as an extension of its lifetime was lost too."""
    created = sandbox.metadata.creation_timestamp
    own = sandbox.spec.lifetime.end(created) if created is not None else None
    end, least = wish.expires_at if wish is not None else own, now + LEAST_LIFE
    if end is None or end >= least:
        return sandbox, ""
    longer = Lifetime(expires_at=least.replace(microsecond=0))
    spec = sandbox.spec.model_copy(update={"lifetime": longer})
    remark = (
        f"Its lifetime ends at {end:%Y-%m-%dT%H:%M:%SZ} as far as is known here; it was given an "
        "hour. `sandboxer extend-ttl` gives it more."
    )
    return sandbox.model_copy(update={"spec": spec}), remark


def _difference(sandbox: Sandbox, seen: Observation, wish: Wish | None) -> str:
    """Return what the next pass will change, and why."""
    assert wish is not None, "what cannot be resolved has a refusal"
    if not seen.spec_hash:
        return "It is not whole, and is completed."
    try:
        wanted = build_instance(
            sandbox,
            wish,
            extension=sandbox.status.extension,
            ports=sandbox.status.ports,
            environment=seen.labels.get(LABEL_ENVIRONMENT, ""),
        )
    except InvalidSpecError as error:
        return f"It will wait for a person: {error.message}"
    if wanted.spec_hash == seen.spec_hash:
        return ""
    return f"It is made anew, as profile {sandbox.spec.profile} is not what it was made by."


def _misplaced(sandbox: Sandbox, wish: Wish | None, host: Host) -> str:
    """Return why the next pass would tear it down and make it anew elsewhere."""
    named, here = sandbox.spec.placement.host, host.metadata.name
    objection = ""
    if wish is not None:
        objection = placement_objection(wish, sandbox.status.extension, host)
    elif named not in (None, here):
        objection = f"The sandbox asks for host {named} and is on {here}."
    if not objection:
        return ""
    return f"{objection} It would be torn down there; mend the Host or the Profile first."
