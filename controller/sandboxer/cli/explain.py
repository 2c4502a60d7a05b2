"""`explain`: what happened to a sandbox and why, in plain lines, also when it is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import sandbox_name
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.printing import columns, safe_text, to_yaml, write
from sandboxer.client.paths import path_of
from sandboxer.kinds.meta import Condition
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.kinds.story import SandboxStory, StoryOfOne, Tombstone, Transition
from sandboxer.units import format_duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access

# Transitions shown, the newest; what is older is in `-o json`.
SHOWN = 20

# Where the sentence about the next host begins, in what routing says of all that do not fit.
_NEXT_PLACE = re.compile(r"(?<=\.) (?=[a-z0-9][a-z0-9.-]*(?: on [a-z0-9.-]+)?: )")

_DELETERS = {
    "expiry": "it expired",
    "collector": "it went with what it belonged to",
    "controller": "the controller deleted it",
}


@click.command()
@click.argument("name")
@namespace_option
@click.option("--all", "every", is_flag=True, help="Every sandbox that ever had this name.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    help="Plain lines, or everything that is known.",
)
def explain(name: str, namespace: str | None, *, every: bool, output: str) -> int:
    """
    Tell what happened to a sandbox and why, living, pending or gone.

    NAME may also be its uid or the beginning of it. Of several that had the name, the living one is
    told, else the newest that is gone.
    """
    wanted = sandbox_name(name)

    async def work(access: Access) -> int:
        path = path_of(Sandbox, current_namespace(namespace), wanted, "story")
        query = f"?{urlencode({'all': 'true'})}" if every else ""
        story = await access.client.read(SandboxStory, path + query)
        write(_printed(story, output))
        return Exit.OK

    return with_api(work)


def _printed(story: SandboxStory, output: str) -> str:
    if output == "json":
        return json.dumps(story.to_document(), indent=2, ensure_ascii=False) + "\n"
    if output == "yaml":
        return to_yaml(story.to_document())
    now = datetime.now(UTC)
    return "\n".join(explained(each, now) for each in story.items)


def explained(story: StoryOfOne, now: datetime) -> str:
    """Return the whole text about one sandbox."""
    stone = story.tombstone
    lines = _of_living(story, now) if stone is None else _of_gone(story, stone, now)
    head, *rest = (safe_text(line) for line in lines)
    return "".join([f"{head}\n", *(f"  {line}\n" for line in rest), _history(story.transitions)])


def _of_living(story: StoryOfOne, now: datetime) -> Iterator[str]:
    conditions = {condition.type: condition for condition in story.conditions}
    yield f"{story.namespace}/{story.name} is {story.phase}."
    asked = next((t for t in story.transitions if t.reason == "DeletionRequested"), None)
    if asked is not None:
        yield f"{_who(asked)} asked for its deletion at {_time(asked.time)}."
        yield from _because(asked.evidence.get("because", ""))
    ready, stalled = conditions.get("Ready"), conditions.get("Stalled")
    yield from _placement(story, conditions.get("Routed"))
    if ready is not None and story.host:
        yield ready.message
        yield from _waits_for(conditions.get("Reconciling"), ready)
    if stalled is not None and stalled.status == "True":
        if ready is None or stalled.message != ready.message:
            yield f"A person has to act: {stalled.message}"
        else:
            yield "A person has to act."
    yield from _trouble(story.transitions)
    if story.expires_at is not None:
        left_s = (story.expires_at - now).total_seconds()
        yield f"It expires at {_time(story.expires_at)}, in {format_duration(left_s)}."


def _placement(story: StoryOfOne, routed: Condition | None) -> Iterator[str]:
    """Say where it is and why, or which hosts were tried and why each said no."""
    if story.host:
        yield f"It is on host {story.host} by {story.extension}."
        yield from _NEXT_PLACE.split(story.placement_reason)
    elif routed is not None:
        yield from _NEXT_PLACE.split(routed.message)


def _waits_for(reconciling: Condition | None, ready: Condition) -> Iterator[str]:
    """Say what a change of something that goes on running waits for."""
    waits = reconciling is not None and reconciling.reason == "Waiting"
    if reconciling is not None and waits and reconciling.message != ready.message:
        yield f"A change of it waits. {reconciling.message}"


def _of_gone(story: StoryOfOne, stone: Tombstone, now: datetime) -> Iterator[str]:
    asked_at = stone.deletion_requested_at or stone.deleted_at
    ago = format_duration((now - stone.deleted_at).total_seconds())
    deleter = _DELETERS.get(stone.deleted_by) or f"{_named(stone.deleted_by)} deleted it"
    program = f" with {stone.deleted_via}" if stone.deleted_via else ""
    yield f"{stone.namespace}/{stone.name} is gone: {deleter}{program} at {_time(asked_at)}."
    yield from _because(stone.because)
    where = f"on host {stone.host} by {stone.extension}" if stone.host else "without a place"
    lived = ""
    if stone.created_at is not None:
        lived = format_duration((stone.deleted_at - stone.created_at).total_seconds())
    yield f"It lived for {lived} {where}, and went {ago} ago; its uid was {stone.uid}."
    if stone.phase:
        said = f" Ready said: {stone.last_message}" if stone.last_message else ""
        yield f"It was {stone.phase} when its deletion was asked for.{said}"
    yield from _trouble(story.transitions)


def _because(reason: str) -> Iterator[str]:
    if reason:
        yield f"Because: {reason}"


def _trouble(transitions: Sequence[Transition]) -> Iterator[str]:
    """Say what went wrong last."""
    worst = next((t for t in reversed(transitions) if t.type == "Warning"), None)
    if worst is not None:
        yield f"Its last trouble was at {_time(worst.last_time or worst.time)}: {worst.message}"


def _history(transitions: Sequence[Transition]) -> str:
    if not transitions:
        return "\nNothing is known of what happened; it was made by an older version.\n"
    shown = transitions[-SHOWN:]
    rows = [["", _time(t.time), _who(t), t.reason, safe_text(_told(t))] for t in shown]
    left = len(transitions) - len(shown)
    older = f" ({left} earlier ones are in -o json)" if left else ""
    return f"\nWhat happened, in UTC{older}:\n" + columns(rows)


def _who(transition: Transition) -> str:
    detail = transition.via or transition.trigger
    return safe_text(f"{_named(transition.by)} ({detail})" if detail else _named(transition.by))


def _named(by: str) -> str:
    """Return `user alice` for `user/alice`."""
    return by.replace("/", " ", 1)


def _told(transition: Transition) -> str:
    evidence = transition.evidence
    because = f" {evidence['because']}" if "because" in evidence else ""
    fields = f" Changed: {evidence['fields']}." if "fields" in evidence else ""
    again = ""
    if transition.count > 1 and transition.last_time is not None:
        again = f" ({transition.count} times, last at {_time(transition.last_time)})"
    return f"{transition.message}{because}{fields}{again}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
