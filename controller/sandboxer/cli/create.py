"""`create`: a Sandbox without writing YAML, and waiting for it."""

from __future__ import annotations

import json
import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.names import reference_text
from sandboxer.cli.options import (
    DURATION,
    PAIR,
    current_namespace,
    namespace_option,
    output_option,
    timeout_option,
)
from sandboxer.cli.printing import columns, printer_for, write
from sandboxer.cli.progress import ready, settle
from sandboxer.cli.suggest import did_you_mean
from sandboxer.errors import InvalidSpecError, NotFoundError
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Key
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import DEFAULT_PROFILE, Sandbox
from sandboxer.sources.documents import DocumentError, read_documents
from sandboxer.units import Duration, format_duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client

# Random hex digits behind a generated name; 2^24 makes a clash among hundreds of them unlikely,
# and a clash is refused by the store, never overwritten.
NAME_DIGITS = 6


def typed_value(text: str) -> str | int | float | bool:
    """Return the value of `--input`: `true`, `false` and numbers in JSON's form, else the text."""
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        # NOTE: `007` and `1_0` are texts to a person although Python reads numbers.
        if str(value) == text and math.isfinite(value):
            return value
    return text


def _input(name: str, text: str) -> str | int | float | bool:
    """Return one input; a `repo` is meant relative to where the person stands, and stored whole."""
    if name == "repo" and not text.startswith(("/", "~")):
        return str(Path(text).absolute())
    return typed_value(text)


async def _check_profile(client: Client, name: str) -> None:
    if await client.get(Profile, name) is None:
        names = sorted(p.metadata.name for p in (await client.list(Profile)).items)
        short = [n for n in names if n.removeprefix("profile.") == name]
        hint = f'Did you mean "{short[0]}"?' if short else did_you_mean(name, names)
        raise NotFoundError(f'There is no profile called "{name}".', remedy=hint)


async def _check_host(client: Client, name: str) -> None:
    if await client.get(Host, name) is None:
        names = sorted(h.metadata.name for h in (await client.list(Host)).items)
        raise NotFoundError(f'There is no host called "{name}".', remedy=did_you_mean(name, names))


async def _check(access: Access, sandbox: Sandbox) -> None:
    """
    Refuse what could not become Ready; the API itself only remarks it, as a profile may come later.

    Raises:
        NotFoundError: There is no such profile or host.
        InvalidSpecError: The profile refuses it.
    """
    await _check_profile(access.client, sandbox.spec.profile)
    if host := sandbox.spec.placement.host or access.settings.host:
        await _check_host(access.client, host)
    with access.collected_warnings() as problems:
        await access.client.create(sandbox, dry_run=True)
    if problems:
        raise InvalidSpecError("\n".join(problems))


def sandbox_from(
    name: str | None,
    namespace: str,
    *,
    inputs: dict[str, Any],
    env: dict[str, str],
    **options: str | None,
) -> Sandbox:
    """
    Build the document that `create` writes.

    Args:
        name: Of the sandbox; generated from the profile when None.
        namespace: Where it belongs.
        inputs: Typed values of `--input`.
        env: Of `--env`.
        options: profile, host, ttl, actor, project; None where not given.

    Raises:
        InvalidSpecError: A value is not allowed in a manifest.
    """
    profile = options["profile"] or DEFAULT_PROFILE
    stem = profile.removeprefix("profile.").replace(".", "-")[:40]
    spec: dict[str, Any] = {"profile": profile, "inputs": inputs, "env": env}
    if options["host"]:
        spec["placement"] = {"host": options["host"]}
    if options["ttl"]:
        spec["lifetime"] = {"ttl": options["ttl"]}
    actor = {"type": options["actor"], "project": options["project"]}
    spec["actor"] = {field: value for field, value in actor.items() if value}
    metadata = {"name": name or f"{stem}-{secrets.token_hex(NAME_DIGITS // 2)}"}
    document = {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Sandbox",
        "metadata": {**metadata, "namespace": namespace},
        "spec": {field: value for field, value in spec.items() if value},
    }
    try:
        (made,) = read_documents(json.dumps(document), "create")
    except DocumentError as error:
        problem = error.problems[0]
        raise InvalidSpecError(
            f"{problem.field}: {problem.message}.", field=problem.field
        ) from error
    assert isinstance(made.resource, Sandbox)
    return made.resource


@click.command()
@click.option("--profile", help=f"Recipe to use.  [default: {DEFAULT_PROFILE}]")
@click.option("--name", help="Name of the sandbox; generated when left out.")
@click.option("--input", "inputs", type=PAIR, multiple=True, metavar="NAME=VALUE", help="Input of the profile's extension.")  # fmt: skip
@click.option("--env", type=PAIR, multiple=True, metavar="NAME=VALUE", help="Environment variable inside; not for secrets.")  # fmt: skip
@click.option("--host", help="Place it on this Host.")
@click.option("--ttl", type=DURATION, help="Delete it after this time, for example 2h.")
@click.option("--actor", type=click.Choice(["adm", "agt", "atm"]), help="Operator, agent or automation.")  # fmt: skip
@click.option("--project", help="Project it is for.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is Ready.")
@namespace_option
@timeout_option("5m")
@output_option(default="")
def create(
    inputs: tuple[tuple[str, str], ...],
    env: tuple[tuple[str, str], ...],
    namespace: str | None,
    *,
    name: str | None,
    wait: bool,
    timeout: Duration,
    output: str,
    **options: str | None,
) -> int:
    """
    Make a sandbox and wait until it is Ready.

    Without arguments it deploys the canary on this machine and prints what it measured.
    """
    sandbox = sandbox_from(
        name,
        current_namespace(namespace),
        inputs={key: _input(key, text) for key, text in inputs},
        env=dict(env),
        **options,
    )
    printer = printer_for(output, single=True) if output else None

    async def work(access: Access) -> int:
        await _check(access, sandbox)
        created = await access.client.create(sandbox)
        if not wait:
            write(printer([created]) if printer else f"{reference_text(created)} created\n")
            return 0
        made, seconds = await await_ready(access, created.key, timeout.seconds)
        write(printer([made]) if printer else await report(made, access.client, seconds))
        return 0

    return with_api(work, writes=True)


async def await_ready(access: Access, key: Key, timeout_s: float) -> tuple[Sandbox, float]:
    """Wait until a sandbox is Ready; return it and the seconds it took."""
    seconds = await settle(access, [key], ready([key]), timeout_s=timeout_s)
    made = await access.client.get(Sandbox, key.name, key.namespace)
    if made is None:
        raise NotFoundError(f"{key} was deleted while it was being made.")
    return made, seconds


async def report(sandbox: Sandbox, client: Client, seconds: float) -> str:
    """Return what `create` prints: where it runs, what is enforced, what was measured."""
    status = sandbox.status
    host = await client.get(Host, status.host)
    rows = [
        ["id", sandbox.metadata.uid.replace("-", "")[:12]],
        ["profile", sandbox.spec.profile],
        ["extension", status.extension],
        ["host", status.host + (f" ({_machine(host)})" if host else "")],
        ["ready in", f"{seconds:.2f} s"],
    ]
    if host is not None and host.status.round_trip_ms:
        rows.append(["round trip", f"{host.status.round_trip_ms:.1f} ms"])
    if status.isolation is not None:
        rows.append(["isolation", f"{status.isolation.level}: {status.isolation.detail}"])
    if status.reachability is not None and status.reachability.remote_dir:
        rows.append(["directory", status.reachability.remote_dir])
    rows += [
        [f"port {name}", f"127.0.0.1:{port} on {status.host}"]
        for name, port in (status.reachability.ports if status.reachability else {}).items()
    ]
    if status.expires_at is not None:
        left = (status.expires_at - status.expires_at.now(status.expires_at.tzinfo)).total_seconds()
        rows.append(["expires in", format_duration(left)])
    return f"{reference_text(sandbox)} Ready\n" + columns([["", *cells] for cells in rows])


def _machine(host: Host) -> str:
    facts = host.status.facts
    memory = f"{facts.memory_bytes / 2**30:.1f} GiB"
    return ", ".join(
        part
        for part in (facts.os, facts.architecture, f"{facts.cpus} CPUs", memory, facts.engine)
        if part
    )
