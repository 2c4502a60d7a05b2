"""`exec` and `logs`: what goes on inside a sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.terminal import connected, stdin_is_terminal
from sandboxer.client.paths import path_of
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.cli.access import Access


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", metavar="ID")
@click.argument(
    "argv", metavar="-- COMMAND [ARG…]", nargs=-1, required=True, type=click.UNPROCESSED
)
@click.option("-c", "--container", default="", metavar="SERVICE", help="Compose service; the first when left out.")  # fmt: skip
@click.option("-i", "--stdin", "interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal, if stdin is one.")
@namespace_option
def exec_(
    name: str,
    argv: tuple[str, ...],
    container: str,
    *,
    interactive: bool,
    terminal: bool,
    namespace: str | None,
) -> int:
    """
    Run a command inside a sandbox and end with its exit code.

    The arguments reach the program exactly as they are; no shell looks at them.
    """
    words = argv[1:] if argv[0] == "--" else argv
    if not words:
        raise click.UsageError("name the command to run, after --")

    async def work(access: Access) -> int:
        from sandboxer.client.streams import execute

        sandbox = await get_sandbox(access.client, name, current_namespace(namespace))
        with connected(
            interactive=interactive, terminal=terminal and stdin_is_terminal()
        ) as streams:
            server, path = access.client.server, _path(sandbox)
            return await execute(server, path, words, streams, container=container)

    return with_api(work)


@click.command()
@click.argument("name", metavar="ID")
@click.option("-c", "--container", default="", metavar="SERVICE", help="Compose service; the first when left out.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines.")
@namespace_option
def logs(
    name: str, container: str, *, follow: bool, tail: int | None, namespace: str | None
) -> int:
    """Print what a sandbox printed."""

    async def work(access: Access) -> int:
        sandbox = await get_sandbox(access.client, name, current_namespace(namespace))
        with connected(interactive=False, terminal=False) as streams:
            printed = access.client.log(
                _path(sandbox), container=container, follow=follow, tail=tail
            )
            async for chunk in printed:
                await streams.stdout(chunk)
        return Exit.OK

    return with_api(work)


def _path(sandbox: Sandbox) -> str:
    return path_of(Sandbox, sandbox.metadata.namespace, sandbox.metadata.name)
