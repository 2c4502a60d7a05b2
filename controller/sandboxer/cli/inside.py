"""`exec` and `logs`: what goes on inside a sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_manager
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.terminal import connected, stdin_is_terminal

if TYPE_CHECKING:
    from sandboxer.manager import Manager


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

    async def work(manager: Manager) -> int:
        sandbox = get_sandbox(manager.store, name, current_namespace(namespace))
        inside = await manager.inside(sandbox, needs="exec")
        with connected(
            interactive=interactive, terminal=terminal and stdin_is_terminal()
        ) as streams:
            status = await inside.extension.exec(
                inside.session, inside.instance, words, streams, container=container
            )
        # A signal number arrives negative; a shell reports 128 + signal.
        return status if status >= 0 else 128 - status

    return with_manager(work)


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

    async def work(manager: Manager) -> int:
        sandbox = get_sandbox(manager.store, name, current_namespace(namespace))
        inside = await manager.inside(sandbox, needs="logs")
        with connected(interactive=False, terminal=False) as streams:
            await inside.extension.logs(
                inside.session,
                inside.instance,
                streams,
                container=container,
                follow=follow,
                tail=tail,
            )
        return Exit.OK

    return with_manager(work)
