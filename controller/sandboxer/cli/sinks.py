"""`sinks`: who is told what happens to sandboxes, and what they did not take."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import click

from sandboxer.cli.access import Access, with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.printing import columns, note, safe_text, write
from sandboxer.cli.suggest import did_you_mean
from sandboxer.errors import NotFoundError
from sandboxer.kinds.meta import API_VERSION, Model
from sandboxer.kinds.sinks import DeadLetterList, Revival, SinkList, SinkState
from sandboxer.units import format_duration

ROOT: Final = f"/apis/{API_VERSION}"

Command = TypeVar("Command", bound=Callable[..., Any])


def _output_option(command: Command) -> Command:
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form."
    )(command)


@click.group()
def sinks() -> None:
    """
    See who is told what happens to sandboxes: the State Hub and webhooks.

    They are named by `sinks.yaml` in the data directory and by SANDBOXER_STATE_HUB_URL; the
    controller reads both when it starts.
    """


@sinks.command("list")
@_output_option
def list_(output: str) -> int:
    """List the sinks, and how much waits for each."""

    async def work(access: Access) -> int:
        found = await access.client.read(SinkList, f"{ROOT}/sinks")
        _print(found, output, sinks_text(found.items, datetime.now(UTC)))
        return Exit.OK

    return with_api(work)


@sinks.command()
@click.argument("sink", default="")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=500, show_default=True, help="How many."
)
@_output_option
def dead(sink: str, limit: int, output: str) -> int:
    """List what was given up (of one SINK), oldest first."""

    async def work(access: Access) -> int:
        path = f"{ROOT}/deadletters?{urlencode({'sink': sink, 'limit': limit})}"
        found = await access.client.read(DeadLetterList, path)
        if sink and not found.items:
            await _must_be_known(access, sink)
        _print(found, output, dead_text(found, datetime.now(UTC)))
        return Exit.OK

    return with_api(work)


@sinks.command()
@click.argument("numbers", metavar="[NUMBER]…", nargs=-1, type=click.IntRange(min=1))
@click.option("--sink", default="", metavar="NAME", help="Everything of this sink.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
def retry(numbers: tuple[int, ...], sink: str, *, everything: bool) -> int:
    """
    Send again what was given up: by NUMBER of `sinks dead`, of one --sink, or --all.

    What is sent again comes after later events of its sandbox that were delivered meanwhile.
    """
    if bool(numbers) + bool(sink) + everything != 1:
        raise click.UsageError("say which: numbers of `sandboxer sinks dead`, --sink NAME or --all")

    async def work(access: Access) -> int:
        # NOTE: in their order, or a later one could be on its way before an earlier one is revived.
        asked = sorted(set(numbers)) or [0]
        revived = {number: await _revive(access, sink, number) for number in asked}
        if sink and not any(revived.values()):
            await _must_be_known(access, sink)
        write(f"{sum(revived.values())} sent again\n")
        if any(revived.values()) and not access.somebody_works():
            note("note: no controller is running; they wait for one")
        if missing := [str(number) for number in numbers if not revived[number]]:
            raise NotFoundError(
                f"There is no dead letter {', '.join(missing)} of a sink that is registered.",
                remedy="See `sandboxer sinks dead` and `sandboxer sinks list`.",
            )
        return Exit.OK

    return with_api(work, writes=True)


async def _revive(access: Access, sink: str, number: int) -> int:
    path = f"{ROOT}/deadletters?{urlencode({'sink': sink, 'number': number or ''})}"
    return (await access.client.read(Revival, path, method="POST")).revived


async def _must_be_known(access: Access, sink: str) -> None:
    """Refuse a name that no sink has, so that a slip is not taken for good news."""
    found = await access.client.read(SinkList, f"{ROOT}/sinks")
    names = [each.name for each in found.items]
    if sink not in names:
        raise NotFoundError(
            f"There is no sink {sink!r} in the settings of the controller.",
            remedy=did_you_mean(sink, names) or "See `sandboxer sinks list`.",
        )


def _print(found: Model, output: str, text: str) -> None:
    if output == "json":
        text = json.dumps(found.to_document(), indent=2) + "\n"
    write(text)


def sinks_text(found: tuple[SinkState, ...], now: datetime) -> str:
    """Return one line for each sink."""
    if not found:
        return "nobody is told; docs/integrations/state-hub.md says how\n"
    rows = [["NAME", "URL", "WAITING", "OLDEST", "DEAD", "LAST ERROR"]]
    rows += [
        [
            each.name,
            safe_text(each.url),
            f"{each.waiting}{' (full)' if 0 < each.most_waiting <= each.waiting else ''}",
            _age(each.oldest, now),
            str(each.dead),
            safe_text(each.error) or "-",
        ]
        for each in found
    ]
    return columns(rows)


def dead_text(found: DeadLetterList, now: datetime) -> str:
    """Return one line for each dead letter, and one for all that are not listed."""
    if not found.items:
        return "nothing was given up\n"
    rows = [["NUMBER", "SINK", "SANDBOX", "TYPE", "AGE", "ATTEMPTS", "LAST ERROR"]]
    rows += [
        [
            str(each.number),
            each.sink,
            f"{each.namespace}/{each.name}",
            each.type,
            _age(each.time, now),
            str(each.attempts),
            safe_text(each.error),
        ]
        for each in found.items
    ]
    more = f"… and {found.remaining} more; see --limit\n" if found.remaining else ""
    return columns(rows) + more


def _age(moment: datetime | None, now: datetime) -> str:
    return "-" if moment is None else format_duration((now - moment).total_seconds())
