"""
`adopt`: sandboxes that run on hosts and whose objects were lost with the store.

Looking and adopting go through the API, whoever serves it. Taking over the id of the installation
whose store was lost is done by this command itself, between the two, while nobody has the store
open: every process has the id in memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit, exit_of
from sandboxer.cli.inspect import hosts_called
from sandboxer.cli.printing import columns, note, safe_text, write
from sandboxer.client.paths import path_of
from sandboxer.errors import ConflictError, NotFoundError, SandboxerError, TerminalError
from sandboxer.kinds.adoption import Adopted, LostSandbox, LostSandboxes
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.settings import settings_from_environment

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client

# Adopted at the same time; each is looked at twice, over the channels of its host's connection.
AT_ONCE = 4


class Found(NamedTuple):
    """Something lost and where it is."""

    host: str
    what: LostSandbox

    @property
    def name(self) -> str:
        """Its sandbox as its labels say, for a person."""
        return safe_text(f"{self.what.namespace or '?'}/{self.what.name or '?'}")


@dataclass
class Survey:
    """What all hosts list."""

    own: str = ""
    """Id of this installation."""
    found: list[Found] = field(default_factory=list)
    is_of_all: bool = True
    """Whether every host was asked."""
    unanswered: list[str] = field(default_factory=list)
    """Names of those that did not answer, or not for every extension."""
    code: Exit = Exit.OK

    def of(self, environment: str) -> list[Found]:
        """Return what one installation has made."""
        return [each for each in self.found if each.what.environment == environment]


class Plan(NamedTuple):
    """What is to be adopted, and under which id."""

    found: list[Found]
    environment: str
    takes_over: bool
    """Whether that is not the present id of this installation."""
    code: Exit


@click.command()
@click.option("--all", "everywhere", is_flag=True, help="From every Host there is.")
@click.option("--host", "name", metavar="NAME", default="", help="From this Host only.")
@click.option(
    "--environment", metavar="ID", default="", help="Installation whose sandboxes these are."
)
@click.option(
    "--trust-hosts", "trusts", is_flag=True, help="Believe manifests signed with another key."
)
@click.option("--dry-run", "rehearses", is_flag=True, help="Only say what would be done.")
def adopt(name: str, environment: str, *, everywhere: bool, trusts: bool, rehearses: bool) -> int:
    """
    Rebuild the objects of sandboxes that run on hosts, after the store was lost.

    Names, uids, ports and what runs stay as they are. An empty store takes over the id of the
    installation whose manifests the key of this data directory has signed, or that --environment
    names; no controller may run then. Never take over an installation that lives.

    Exit code 0 when nothing is left to adopt, 1 when something is, 7 when a host does not answer,
    8 when a person has to choose, 9 when an extension could not look at one.
    """
    if everywhere == bool(name):
        raise click.UsageError("Give either --all or --host NAME.")

    async def look(access: Access) -> Plan:
        return await _plan(access, name, environment, trusts=trusts)

    async def take_in(access: Access) -> int:
        limit = asyncio.Semaphore(AT_ONCE)

        async def limited(each: Found) -> bool:
            async with limit:
                return await _adopt(access.client, each, trusts=trusts)

        taken = await asyncio.gather(*map(limited, plan.found))
        if any(taken) and not access.somebody_works():
            note("No controller runs; start one, and it looks after them.")
        return plan.code or (Exit.OK if all(taken) else Exit.NO)

    plan = with_api(look, writes=True)
    if rehearses or not plan.found:
        write(_as_text(plan))
        return plan.code or (Exit.NO if plan.found else Exit.OK)
    if plan.takes_over:
        _take_over(plan.environment)
    return with_api(take_in, writes=True)


async def _plan(access: Access, name: str, environment: str, *, trusts: bool) -> Plan:
    client = access.client
    hosts = [host.metadata.name for host in await hosts_called(client, name)]
    note(f"Looking at: {', '.join(hosts)}.")
    survey = await _survey(client, hosts, trusts=trusts)
    survey.is_of_all = not name
    is_used = any(each.status.extension for each in (await client.list(Sandbox)).items)
    chosen = _chosen(survey, environment, is_used=is_used, trusts=trusts)
    takes_over = chosen != survey.own
    if takes_over:
        _check_take_over(access, survey, chosen, is_used=is_used)
    return Plan(_without_doubles(survey.of(chosen)), chosen, takes_over, survey.code)


async def _survey(client: Client, hosts: Sequence[str], *, trusts: bool) -> Survey:
    survey = Survey()
    for host in hosts:
        path = path_of(Host, name=host, subresource="lost")
        try:
            answer = await client.ask_host(LostSandboxes, f"{path}?trust={str(trusts).lower()}")
        except SandboxerError as error:
            note(f"error: {host}: {safe_text(error.message)}")
            survey.unanswered.append(host)
            survey.code = max(survey.code, exit_of(error))
            continue
        for extension, problem in sorted(answer.problems.items()):
            note(f"error: {host}: {extension} cannot look: {safe_text(problem)}")
            survey.code = max(survey.code, Exit.TRANSIENT)
        survey.unanswered += [host] if answer.problems else []
        survey.own = answer.environment
        survey.found += [Found(host, each) for each in answer.sandboxes]
    return survey


def _chosen(survey: Survey, named: str, *, is_used: bool, trusts: bool) -> str:
    """Return the id of the installation whose sandboxes are adopted; this one's when none are."""
    seen = {each.what.environment for each in survey.found}
    if named:
        if named not in (*seen, survey.own):
            message = f"No host lists anything of installation {safe_text(named)}."
            raise NotFoundError(
                message, remedy="Run it without --environment to see what there is."
            )
        return named
    others = seen - {survey.own}
    if survey.own in seen or not others:
        return survey.own
    if is_used:
        note("note: other installations have sandboxes there, which are left alone")
        return survey.own
    signed = {each.what.environment for each in survey.found if each.what.is_ours}
    is_only = trusts and len(others) == 1 and survey.is_of_all and not survey.unanswered
    if len(signed) == 1 or is_only:
        return (signed or others).pop()
    write(_installations(survey))
    unknown = "" if survey.is_of_all else " Not every host was asked."
    if survey.unanswered:
        unknown += f" Not all of {', '.join(survey.unanswered)} could be looked at."
    raise TerminalError(
        f"Which installation was lost is not certain: of {len(others)} that have sandboxes there, "
        f"{len(signed) or 'none'} signed with the key of this data directory.{unknown}",
        reason="InstallationUnclear",
        remedy="Say with --environment ID which it is, and with --trust-hosts if its key was lost "
        "too. Take none that lives.",
    )


def _check_take_over(access: Access, survey: Survey, chosen: str, *, is_used: bool) -> None:
    if is_used or survey.of(survey.own):
        raise ConflictError(
            f"This installation has sandboxes of its own, and would lose them under the id {chosen}.",
            reason="EnvironmentInUse",
            remedy="Adopt into an empty store: set SANDBOXER_DATA_DIR to another directory.",
        )
    note(f"The id of this installation becomes {safe_text(chosen)}; it has made nothing yet.")
    if access.manager is None:
        raise TerminalError(
            "A controller runs, which has the id of this installation in memory.",
            reason="ControllerRuns",
            remedy="Stop it, run this again on its machine, and start it.",
        )


def _take_over(environment: str) -> None:
    from sandboxer.store.environment import take_over

    take_over(settings_from_environment().database_path, environment)


def _without_doubles(found: Sequence[Found]) -> list[Found]:
    """Say of each uid that is in several places, and of each name of several uids, that it stays."""
    uids = Counter(each.what.uid for each in found)
    names: defaultdict[str, set[str]] = defaultdict(set)
    for each in found:
        names[each.name].add(each.what.uid)

    def doubt(each: Found) -> str:
        if uids[each.what.uid] > 1:
            hosts = ", ".join(sorted(x.host for x in found if x.what.uid == each.what.uid))
            return f"It is on several hosts ({hosts}); name the right one with --host."
        if len(names[each.name]) > 1:
            return (
                "There are several of that name; `reap-stale` can remove those that are too many."
            )
        return ""

    return [
        each._replace(what=each.what.model_copy(update={"objection": objection}))
        if (objection := each.what.objection or doubt(each))
        else each
        for each in found
    ]


async def _adopt(client: Client, found: Found, *, trusts: bool) -> bool:
    """Have one taken in and say what became of it; False when it is left there."""
    outcome, message = False, found.what.objection
    if not message:
        query = urlencode(
            {
                "uid": found.what.uid,
                "extension": found.what.extension,
                "trust": str(trusts).lower(),
            }
        )
        path = path_of(Host, name=found.host, subresource="adopt")
        try:
            answer = await client.ask_host(Adopted, f"{path}?{query}", method="POST")
            outcome, message = answer.adopted, answer.message
        except SandboxerError as error:
            message = str(error)
    word = "adopted." if outcome else "left alone."
    write(f"{found.host}  {found.name}  {word} {safe_text(message)}".rstrip() + "\n")
    return outcome


def _as_text(plan: Plan) -> str:
    if not plan.found and plan.code:
        return "Nothing lost was seen, but not everything could be looked at.\n"
    return _as_table(plan.found)


def _as_table(found: Sequence[Found]) -> str:
    if not found:
        return "Nothing is lost.\n"
    rows = [
        [
            "HOST",
            "SANDBOX",
            "UID",
            "EXTENSION",
            "STATE",
            "CONTENTS",
            "CREATED",
            "WHAT BECOMES OF IT",
        ]
    ]
    for each in found:
        what = each.what
        created = f"{what.created_at:%Y-%m-%d %H:%M}" if what.created_at else "?"
        becomes = f"left alone: {what.objection}" if what.objection else f"adopted. {what.remark}"
        cells = (what.extension, what.state, what.contents, created, becomes.rstrip())
        rows.append([each.host, each.name, what.uid[:8], *map(safe_text, cells)])
    return columns(rows)


def _installations(survey: Survey) -> str:
    """Return what there is of each installation, as a table."""
    rows = [["INSTALLATION", "SANDBOXES", "HOSTS", "SIGNED HERE", "CREATED"]]
    for environment in sorted({each.what.environment for each in survey.found}):
        found = survey.of(environment)
        hosts = ", ".join(sorted({each.host for each in found}))
        signed = "yes" if any(each.what.is_ours for each in found) else "no"
        dates = sorted(each.what.created_at for each in found if each.what.created_at)
        created = f"{dates[0]:%Y-%m-%d %H:%M} to {dates[-1]:%Y-%m-%d %H:%M}" if dates else "?"
        count = len({each.what.uid for each in found})
        rows.append([safe_text(environment), str(count), hosts, signed, created])
    return columns(rows)
