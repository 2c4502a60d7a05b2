"""`scale`: how many sandboxes a pool keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import get_object, reference_text, references
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.printing import note, write

if TYPE_CHECKING:
    from sandboxer.cli.access import Access


@click.command()
@click.argument("words", metavar="KIND/NAME…", nargs=-1, required=True)
@click.option("--replicas", type=click.IntRange(min=0), required=True, metavar="N", help="How many there should be.")  # fmt: skip
@namespace_option
def scale(words: tuple[str, ...], replicas: int, *, namespace: str | None) -> int:
    """Set how many sandboxes pools keep, for example `scale sbxpool/warm --replicas 5`."""
    wanted = references(words)
    if unscalable := [each for each in wanted if not each.name or each.kind.scale is None]:
        word = unscalable[0].kind.plural
        raise click.UsageError(f"{word} cannot be scaled; name a pool: sbxpool/NAME")

    async def work(access: Access) -> int:
        for reference in wanted:
            found = await get_object(access.client, reference, current_namespace(namespace))
            key = found.key
            await access.client.scale(type(found), key.name, key.namespace, replicas)
            write(f"{reference_text(found)} scaled\n")
        if not access.somebody_works():
            note("note: no controller is running; nothing happens until `sandboxer controller run`")
        return Exit.OK

    return with_api(work, writes=True)
