"""`completion` and `version`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sandboxer import __version__
from sandboxer.cli.exits import Exit
from sandboxer.cli.printing import write


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """
    Print a completion script for your shell.

    bash: `eval "$(sandboxer completion bash)"` in ~/.bashrc; zsh the same in ~/.zshrc;
    fish: `sandboxer completion fish > ~/.config/fish/completions/sandboxer.fish`.
    """
    from sandboxer.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    write(kind(cli, {}, "sandboxer", "_SANDBOXER_COMPLETE").source() + "\n")
    return Exit.OK


@click.command()
def version() -> int:
    """Print the version."""
    write(f"sandboxer {__version__}\n")
    return Exit.OK
