"""`wait`: for a condition, a value or a deletion."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sandboxer.cli import jsonpath
from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import find_object, get_object, reference_text, references
from sandboxer.cli.options import current_namespace, namespace_option, timeout_option
from sandboxer.cli.printing import write
from sandboxer.cli.progress import (
    Question,
    asked,
    current_condition,
    gone,
    refuse_going,
    refuse_stalled,
    settle,
)
from sandboxer.errors import NotFoundError
from sandboxer.kinds.meta import Key, Resource
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access

# An action of a template; what it compares with may hold braces and `=`.
_BRACED = r"""\{(?:[^{}'"]|'[^']*'|"(?:[^"\\]|\\.)*")*\}"""

_FOR = re.compile(
    r"(?P<delete>delete)|condition=(?P<type>[A-Za-z]+)(?:=(?P<status>[A-Za-z]+))?"
    r"|jsonpath=(?P<path>(?:[^={}]|" + _BRACED + r")+)(?:=(?P<value>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What `--for` asks for."""

    text: str
    """As it is reported: `condition met`, `deleted`."""
    holds: Callable[[Resource], bool] | None
    """Whether an object fulfils it; None means it must be gone."""
    may_stall: bool = False
    """Whether a Stalled object can still fulfil it."""


def parse_goal(text: str) -> Goal:
    """
    Read the value of `--for`.

    Raises:
        click.UsageError: It has none of the known forms.
    """
    found = _FOR.fullmatch(text)
    if found is None:
        raise click.UsageError(
            f'--for "{text}" is not delete, condition=TYPE[=STATUS] or jsonpath={{.path}}[=VALUE]'
        )
    if found["delete"]:
        return Goal("deleted", None, may_stall=True)
    if found["type"]:
        return _condition_goal(found["type"], (found["status"] or "True").capitalize())
    return _value_goal(found["path"], found["value"])


def _condition_goal(type_: str, status: str) -> Goal:
    def holds(resource: Resource) -> bool:
        conditions = getattr(getattr(resource, "status", None), "conditions", ())
        name = next((c.type for c in conditions if c.type.lower() == type_.lower()), type_)
        condition = current_condition(resource, name)
        return condition is not None and condition.status == status

    return Goal("condition met", holds, may_stall=(type_.lower(), status) != ("ready", "True"))


def _value_goal(path: str, value: str | None) -> Goal:
    nodes = jsonpath.parse_template(path.strip("'\""))

    def holds(resource: Resource) -> bool:
        text = jsonpath.render(nodes, resource.to_document())
        return bool(text) if value is None else text == value.strip("'\"")

    return Goal("condition met", holds, may_stall=True)


def _question(found: Sequence[Resource], goal: Goal) -> Question:
    keys = [resource.key for resource in found]
    if goal.holds is None:
        return gone({resource.key: resource.metadata.uid for resource in found})
    holds = goal.holds

    def fulfils(key: Key, resource: Resource | None) -> bool:
        if resource is None:
            raise NotFoundError(f"{key} was deleted while it was waited for.")
        if holds(resource):
            return True
        if not goal.may_stall:
            refuse_going(key, resource)
            refuse_stalled(resource)
        return False

    return asked(keys, fulfils)


@click.command()
@click.argument("words", metavar="KIND/NAME…", nargs=-1, required=True)
@click.option("--for", "text", required=True, metavar="GOAL", help="condition=Ready, condition=Ready=False, delete, jsonpath={.status.phase}=Ready")  # fmt: skip
@namespace_option
@timeout_option("5m")
def wait(words: tuple[str, ...], text: str, *, namespace: str | None, timeout: Duration) -> int:
    """
    Wait until every named object fulfils GOAL.

    A condition counts only when it speaks about the newest spec. With no controller running, the
    objects are reconciled by this command. Exit code 6 when the time is over, 1 when a sandbox is
    Stalled or being deleted on the way to Ready, 4 when it is gone.
    """
    wanted = references(words)
    if not all(reference.name for reference in wanted):
        raise click.UsageError("name the objects: KIND NAME… or KIND/NAME…")
    goal = parse_goal(text)

    async def work(access: Access) -> int:
        look = find_object if goal.holds is None else get_object
        current = current_namespace(namespace)
        looked = [await look(access.client, reference, current) for reference in wanted]
        found = [each for each in looked if each is not None]
        if found:
            keys = [resource.key for resource in found]
            await settle(access, keys, _question(found, goal), timeout_s=timeout.seconds)
        write("".join(f"{reference_text(resource)} {goal.text}\n" for resource in found))
        return Exit.OK

    return with_api(work, writes=True)
