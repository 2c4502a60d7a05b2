"""From a manifest and what is seen to the object that would have been there, pure."""

from __future__ import annotations

from collections.abc import Mapping
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

UNKNOWN = "It cannot be said what was wished of it:"


class Rebuilt(NamedTuple):
    """An object that was lost."""

    sandbox: Sandbox
    """As it is to be stored; with an objection only what is known of it."""
    remark: str = ""
    """What a person should know of it, in sentences."""
    objection: str = ""
    """Why it must not be stored so, as a sentence."""


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
    mine = _as_it_is(sandbox, seen)
    try:
        wish = resolve(mine, profile, extensions)
        objection = _misplaced(mine, wish, host)
        change = "" if objection else _change(mine, wish, seen)
    except InvalidSpecError as error:
        # NOTE: adopted now, it would be judged by what a profile says that nobody has seen yet.
        return Rebuilt(mine, objection=f"{UNKNOWN} {error.message} Apply or mend that first.")
    lasting, remark = _lasting(mine, wish, now)
    status = adopted(lasting, seen, host=host.metadata.name, now=now)
    stored = lasting.model_copy(update={"status": status})
    return Rebuilt(stored, " ".join(filter(None, (remark, change))), objection)


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


def _lasting(sandbox: Sandbox, wish: Wish, now: datetime) -> tuple[Sandbox, str]:
    """Return it with some time to live, as an extension of its lifetime was lost too."""
    end, least = wish.expires_at, now + LEAST_LIFE
    if end is None or end >= least:
        return sandbox, ""
    longer = Lifetime(expires_at=least.replace(microsecond=0))
    spec = sandbox.spec.model_copy(update={"lifetime": longer})
    remark = (
        f"Its lifetime ends at {end:%Y-%m-%dT%H:%M:%SZ} as far as is known here; it was given an "
        "hour. `sandboxer extend-ttl` gives it more."
    )
    return sandbox.model_copy(update={"spec": spec}), remark


def _change(sandbox: Sandbox, wish: Wish, seen: Observation) -> str:
    """
    Return what the next pass will change, and why.

    Raises:
        InvalidSpecError: What it runs by cannot take its inputs any more.
    """
    wanted = build_instance(
        sandbox,
        wish,
        extension=sandbox.status.extension,
        ports=sandbox.status.ports,
        environment=seen.labels.get(LABEL_ENVIRONMENT, ""),
    )
    if not seen.spec_hash:
        return "It is not whole, and is completed."
    if wanted.spec_hash == seen.spec_hash:
        return ""
    return f"It is made anew, as profile {sandbox.spec.profile} is not what it was made by."


def _misplaced(sandbox: Sandbox, wish: Wish, host: Host) -> str:
    """Return why the next pass would tear it down and make it anew elsewhere."""
    objection = placement_objection(wish, sandbox.status.extension, host)
    if not objection:
        return ""
    return f"{objection} It would be torn down there; mend the Host or the Profile first."
