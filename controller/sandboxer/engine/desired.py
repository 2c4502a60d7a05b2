"""
What a sandbox is wished to be: its document and its profile, merged and validated.

`resolve` makes the `Wish`, `build_instance` the `Instance` an extension is told, `with_secrets`
adds the secret values at the last moment. Nothing is guessed: an input nobody knows is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from sandboxer.engine.inputs import validate_inputs
from sandboxer.errors import InvalidSpecError, TerminalError
from sandboxer.extension import Extension, Instance, PortLease
from sandboxer.kinds.profile import Candidate as CandidateSpec
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import ISOLATION_ORDER, Placement, Resources, Sandbox, SecretRef
from sandboxer.routing import Candidate, Wish

# Seconds until a sandbox that does not become Ready is called stalled, when nobody says: enough
# to pull an image of 1 GB over 50 Mbit/s.
DEFAULT_READY_TIMEOUT_S = 300.0

# Bytes of one secret: far above any key or token, far below what an environment may hold
# (128 KiB for one string on Linux, execve(2)).
MAX_SECRET_BYTES = 64 * 2**10

SECRET_VARIABLE_PREFIX = "SANDBOXER_SECRET_"  # noqa: S105 - the prefix of names, not a secret
"""Only such variables of the controller's own environment may be given to a sandbox."""


def resolve(sandbox: Sandbox, profile: Profile | None, extensions: Mapping[str, Extension]) -> Wish:
    """
    Merge *sandbox* with its profile and validate the inputs for every candidate.

    Args:
        sandbox: The document.
        profile: The profile it names; None when there is none of that name.
        extensions: All loaded extensions by name.

    Raises:
        InvalidSpecError: There is no such profile, or no candidate can take the inputs; `field`
            names what has to change.
    """
    if profile is None:
        raise InvalidSpecError(
            f"{sandbox.key} names profile {sandbox.spec.profile!r}, and there is none.",
            field="spec.profile",
            reason="ProfileNotFound",
            remedy="See `sandboxer get profiles`.",
        )
    spec = sandbox.spec
    candidates, errors = _candidates(sandbox, profile, extensions)
    if len(errors) == len(candidates):
        raise errors[0]
    return Wish(
        candidates=candidates,
        placement=_merged_placement(spec.placement, profile.spec.placement),
        minimum_isolation=max(
            spec.isolation.minimum, profile.spec.isolation.minimum, key=ISOLATION_ORDER.index
        ),
        resources=_merged_resources(spec.resources, profile.spec.resources),
        ports=spec.ports,
        suspended=spec.operating_mode == "Suspended",
        expires_at=_expires_at(sandbox, profile),
        switch_lease_s=profile.spec.dead_mans_switch.lease_duration.seconds
        if profile.spec.dead_mans_switch is not None
        else None,
        ready_timeout_s=_ready_timeout_s(sandbox, profile),
    )


def build_instance(
    sandbox: Sandbox, wish: Wish, *, extension: str, ports: Mapping[str, int], environment: str
) -> Instance:
    """
    Return what *extension* is told about *sandbox*, without the values of secrets.

    Args:
        sandbox: The document; its status gives the handle.
        wish: From `resolve`.
        extension: Name of the chosen extension.
        ports: Leased host ports by port name.
        environment: Id of this installation.

    Raises:
        InvalidSpecError: That extension cannot take the inputs.
    """
    candidate = wish.candidate(extension)
    if candidate is None or candidate.inputs is None:
        objection = candidate.objection if candidate else "the profile no longer offers it."
        raise InvalidSpecError(
            f"{sandbox.key} runs by {extension}, and {objection}",
            field="spec.inputs",
            reason="InvalidInputs",
        )
    metadata, spec = sandbox.metadata, sandbox.spec
    actor = spec.actor
    instance = Instance(
        uid=metadata.uid,
        namespace=metadata.namespace or "",
        name=metadata.name,
        environment=environment,
        extension=extension,
        spec_hash="",
        inputs=candidate.inputs,
        env=spec.env,
        resources=wish.resources,
        ports=tuple(
            PortLease(
                name=port.name,
                container_port=port.container_port,
                host_port=ports[port.name],
                service=port.service or "",
            )
            for port in wish.ports
            if port.name in ports
        ),
        owner=f"{actor.type}.{actor.project}" if actor.project else actor.type,
        expires_at=wish.expires_at,
        handle=sandbox.status.handle,
    )
    return replace(instance, spec_hash=spec_hash(instance, spec.secret_refs))


def bare_instance(sandbox: Sandbox, *, extension: Extension, environment: str) -> Instance:
    """Return what `teardown` is told of a sandbox whose wish cannot be resolved any more."""
    metadata = sandbox.metadata
    return Instance(
        uid=metadata.uid,
        namespace=metadata.namespace or "",
        name=metadata.name,
        environment=environment,
        extension=extension.name,
        spec_hash=sandbox.status.spec_hash,
        inputs=extension.inputs_model.model_construct(),
        handle=sandbox.status.handle,
    )


def spec_hash(instance: Instance, secret_refs: tuple[SecretRef, ...] = ()) -> str:
    """
    Return 16 hex digits that change when the backend has something to follow.

    Left out: the handle, the values of secrets, and the expiry, which the controller keeps itself.
    """
    followed = {
        "extension": instance.extension,
        "inputs": instance.inputs.model_dump(mode="json"),
        "env": dict(instance.env),
        "secrets": [reference.to_document() for reference in secret_refs],
        "resources": instance.resources.to_document(),
        "ports": [
            [port.name, port.container_port, port.host_port, port.service]
            for port in instance.ports
        ],
        "owner": instance.owner,
    }
    canonical = json.dumps(followed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def with_secrets(
    instance: Instance, sandbox: Sandbox, environ: Mapping[str, str] = os.environ
) -> Instance:
    """
    Return *instance* with the values of its secrets, read now.

    Raises:
        TerminalError: A secret cannot be read; the message names it, never its value.
    """
    if not sandbox.spec.secret_refs:
        return instance
    return replace(
        instance,
        secrets={
            reference.name: SecretStr(_read_secret(sandbox, reference, environ))
            for reference in sandbox.spec.secret_refs
        },
    )


def _read_secret(sandbox: Sandbox, reference: SecretRef, environ: Mapping[str, str]) -> str:
    try:
        if reference.from_env is not None:
            return _allowed(reference.from_env, environ)
        with Path(reference.from_file or "").open("rb") as file:
            value = file.read(MAX_SECRET_BYTES + 1)
        return _bounded(value).decode().removesuffix("\n")
    except (OSError, KeyError, ValueError) as error:
        source = reference.from_file or f"variable {reference.from_env}"
        raise TerminalError(
            f"{sandbox.key} needs secret {reference.name} from {source}, and it cannot be used: {_why(error)}.",
            reason="SecretUnreadable",
            remedy="Make it readable for the user the controller runs as.",
        ) from error


def _why(error: Exception) -> str:
    """Return the cause without anything of the value: a decoding error would show bytes of it."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not set" if isinstance(error, KeyError) else str(error)


def _allowed(variable: str, environ: Mapping[str, str]) -> str:
    if not variable.startswith(SECRET_VARIABLE_PREFIX):
        raise ValueError(f"its name does not start with {SECRET_VARIABLE_PREFIX}")
    return environ[variable]


def _bounded(value: bytes) -> bytes:
    if len(value) > MAX_SECRET_BYTES:
        raise ValueError(f"it has more than {MAX_SECRET_BYTES} bytes")
    return value


def _candidates(
    sandbox: Sandbox, profile: Profile, extensions: Mapping[str, Extension]
) -> tuple[tuple[Candidate, ...], list[InvalidSpecError]]:
    candidates: list[Candidate] = []
    errors: list[InvalidSpecError] = []
    for spec in profile.spec.candidates:
        extension = extensions.get(spec.extension)
        if extension is None:
            candidates.append(
                Candidate(name=spec.extension, objection="no extension of that name is loaded.")
            )
            continue
        values = {**profile.spec.inputs, **spec.inputs, **sandbox.spec.inputs}
        try:
            inputs = validate_inputs(values, extension, profile)
            host = extension.host_name(inputs)
        except InvalidSpecError as error:
            errors.append(error)
            candidates.append(_objecting(spec, extension, str(error)))
        else:
            candidates.append(
                Candidate(
                    name=spec.extension,
                    extension=extension,
                    inputs=inputs,
                    host_selector=spec.host_selector,
                    host=host,
                )
            )
    return tuple(candidates), errors


def _objecting(spec: CandidateSpec, extension: Extension, objection: str) -> Candidate:
    return Candidate(name=spec.extension, extension=extension, objection=objection)


def _merged_placement(own: Placement, profile: Placement) -> Placement:
    return Placement(
        host=own.host or profile.host,
        host_selector=own.host_selector or profile.host_selector,
        extension=own.extension or profile.extension,
    )


def _merged_resources(own: Resources, profile: Resources) -> Resources:
    return Resources(
        cpu=own.cpu or profile.cpu,
        memory=own.memory or profile.memory,
        pids=own.pids or profile.pids,
    )


def _expires_at(sandbox: Sandbox, profile: Profile) -> datetime | None:
    own, created = sandbox.spec.lifetime, sandbox.metadata.creation_timestamp
    lifetime = own if own.is_limited else profile.spec.lifetime
    return lifetime.end(created) if created is not None else None


def _ready_timeout_s(sandbox: Sandbox, profile: Profile) -> float:
    timeout = sandbox.spec.ready_timeout or profile.spec.ready_timeout
    return timeout.seconds if timeout is not None else DEFAULT_READY_TIMEOUT_S
