"""`inspect stale` and `reap-stale`: what carries our label on hosts and belongs to no sandbox."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit, exit_of
from sandboxer.cli.inspect import hosts_called, look_at
from sandboxer.cli.printing import columns, note, safe_text, write
from sandboxer.client.paths import path_of
from sandboxer.errors import SandboxerError
from sandboxer.kinds.host import Host
from sandboxer.kinds.inventory import FoundSandbox, Reaping

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client


_UNKNOWN = {
    "NoSandbox": "Nor does it remember one that had it.",
    "PlacedElsewhere": "It was never left here unseen, so this copy may be the newer one.",
}
"""What it means that the store does not know why something is there."""


class Found(NamedTuple):
    """Something stale and where it is."""

    host: str
    what: FoundSandbox

    @property
    def name(self) -> str:
        """Its sandbox as its labels say, and the uid, for a person."""
        what = self.what
        return safe_text(f"{what.namespace or '?'}/{what.name or '?'} ({what.uid[:8]})")


class Survey(NamedTuple):
    """What was found, and whether everything was looked at: the exit code when it was not."""

    found: list[Found]
    code: Exit


def list_stale(host: str, output: str) -> int:
    """Print what is stale on a host, or on all for an empty name."""

    async def work(access: Access) -> int:
        survey = await _survey(access.client, host)
        write(_as_json(survey.found) if output == "json" else _as_text(survey))
        return survey.code

    return with_api(work, writes=True)


@click.command()
@click.option("--host", "name", metavar="NAME", default="", help="Only this host.")
@click.option("--apply", "applies", is_flag=True, help="Remove them; otherwise they are listed.")
def reap_stale(name: str, *, applies: bool) -> int:
    """
    Remove what carries our label on hosts and belongs to no sandbox; a rehearsal without --apply.

    Each is looked at once more right before it is removed. What another installation made, and what
    carries no label, is never touched.

    Exit code 0 when nothing is (left) there, 1 when something is, 7 when a host does not answer, 9
    when an extension could not look at one.
    """

    async def work(access: Access) -> int:
        survey = await _survey(access.client, name)
        if not applies:
            write(_as_text(survey))
            _advise(survey.found)
            return survey.code or (Exit.NO if survey.found else Exit.OK)
        left = [each for each in survey.found if not await _reap(access.client, each)]
        return survey.code or (Exit.NO if left else Exit.OK)

    return with_api(work, writes=True)


async def _survey(client: Client, name: str) -> Survey:
    found, code = [], Exit.OK
    for host in await hosts_called(client, name):
        try:
            seen = await look_at(client, host)
        except SandboxerError as error:
            note(f"error: {host.metadata.name}: {safe_text(error.message)}")
            code = max(code, exit_of(error))
            continue
        for extension, problem in sorted(seen.problems.items()):
            note(f"error: {host.metadata.name}: {extension} cannot look: {safe_text(problem)}")
            code = max(code, Exit.TRANSIENT)
        found += [Found(host.metadata.name, each) for each in seen.sandboxes if each.stale]
    return Survey(found, code)


async def _reap(client: Client, found: Found) -> bool:
    """Have something removed; False when it is left there."""
    what = found.what
    query = urlencode({"uid": what.uid, "extension": what.extension})
    path = path_of(Host, name=found.host, subresource="reap")
    try:
        answer = await client.ask_host(Reaping, f"{path}?{query}", method="POST")
    except SandboxerError as error:
        write(f"{found.host}  {found.name}  kept: {safe_text(error.message)}\n")
        return False
    outcome = "removed" if answer.removed else "is not stale any more"
    write(f"{found.host}  {found.name}  {outcome}\n")
    return True


def _as_text(survey: Survey) -> str:
    if not survey.found and survey.code:
        return "Nothing stale was seen, but not everything could be looked at.\n"
    return _as_table(survey.found)


def _as_table(found: Sequence[Found]) -> str:
    if not found:
        return "Nothing is stale.\n"
    rows = [["HOST", "SANDBOX", "EXTENSION", "STATE", "RESOURCES", "EVIDENCE"]]
    for each in found:
        what = each.what
        cells = (what.extension, what.state, _contents(what), _evidence(what))
        rows.append([each.host, each.name, *(safe_text(cell) for cell in cells)])
    return columns(rows)


def _contents(what: FoundSandbox) -> str:
    counted = Counter(resource.kind for resource in what.resources)
    return ", ".join(f"{number} {kind}" for kind, number in counted.items())


def _evidence(what: FoundSandbox) -> str:
    unknown = "" if what.remembered else _UNKNOWN.get(what.stale, "")
    return " ".join(filter(None, (what.evidence, unknown, what.objection)))


def _as_json(found: Sequence[Found]) -> str:
    documents = [{"host": each.host, **each.what.to_document()} for each in found]
    return json.dumps(documents, indent=2, ensure_ascii=False) + "\n"


def _advise(found: Sequence[Found]) -> None:
    if found:
        note("Nothing was removed; --apply does it.")
