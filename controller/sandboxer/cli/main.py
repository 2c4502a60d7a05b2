"""
The `sandboxer` command: groups, and what becomes of an error.

Each verb lives in its own module and is imported when it is used, so that `sandboxer --help` and
`sandboxer get` start quickly. A verb returns its exit code; errors travel up to `main`, which is
the only place that prints them.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn

import click

from sandboxer import __version__
from sandboxer.cli.exits import Exit, exit_of
from sandboxer.cli.suggest import did_you_mean
from sandboxer.errors import SandboxerError, Waiting
from sandboxer.settings import settings_from_environment


class Verb(NamedTuple):
    """Where a command is, and its line in the overview (kept here so that --help imports nothing)."""

    target: str
    """`module:attribute`."""
    summary: str
    group: str = "Declarative"


VERBS = {
    "create": Verb("sandboxer.cli.create:create", "Make a sandbox and wait until it is Ready.", "In a hurry"),
    "list": Verb("sandboxer.cli.get:list_", "List sandboxes (= get sandboxes).", "In a hurry"),
    "exec": Verb("sandboxer.cli.inside:exec_", "Run a command inside a sandbox.", "In a hurry"),
    "logs": Verb("sandboxer.cli.inside:logs", "Print what a sandbox printed.", "In a hurry"),
    "cp": Verb("sandboxer.cli.cp:cp", "Copy files into a sandbox or out of it.", "In a hurry"),
    "ssh": Verb("sandboxer.cli.ssh:ssh", "Log in to the machine a sandbox is on.", "In a hurry"),
    "port-forward": Verb("sandboxer.cli.port_forward:port_forward", "Let local ports lead into a sandbox.", "In a hurry"),
    "destroy": Verb("sandboxer.cli.delete:destroy", "Delete a sandbox by its ID.", "In a hurry"),
    "extend-ttl": Verb("sandboxer.cli.lifetime:extend_ttl", "Give a sandbox more time.", "In a hurry"),
    "recreate": Verb("sandboxer.cli.recreate:recreate", "Delete a sandbox and make it again.", "In a hurry"),
    "apply": Verb("sandboxer.cli.apply:apply", "Make the store equal to manifests."),
    "scale": Verb("sandboxer.cli.scale:scale", "Set how many sandboxes a pool keeps."),
    "diff": Verb("sandboxer.cli.apply:diff", "Show what apply would change."),
    "validate": Verb("sandboxer.cli.apply:validate", "Check manifests without touching anything."),
    "get": Verb("sandboxer.cli.get:get", "Show objects."),
    "describe": Verb("sandboxer.cli.describe:describe", "Show all there is to know about objects."),
    "events": Verb("sandboxer.cli.describe:events", "Show what happened."),
    "explain": Verb("sandboxer.cli.explain:explain", "Tell what happened to a sandbox and why, also when it is gone."),
    "wait": Verb("sandboxer.cli.wait:wait", "Wait for a condition, a value or a deletion."),
    "delete": Verb("sandboxer.cli.delete:delete", "Delete objects."),
    "expire": Verb("sandboxer.cli.lifetime:expire", "List what has expired, and delete it."),
    "controller": Verb("sandboxer.cli.controller:controller", "Run the controller.", "Running it"),
    "kubeconfig": Verb("sandboxer.cli.kubeconfig:kubeconfig", "Print what kubectl needs.", "Running it"),
    "token": Verb("sandboxer.cli.tokens:token", "Manage who may use the API.", "Running it"),
    "reachability": Verb("sandboxer.cli.reachability:reachability", "Show the way to a sandbox.", "Running it"),
    "sinks": Verb("sandboxer.cli.sinks:sinks", "See who is told what happens.", "Running it"),
    "inspect": Verb("sandboxer.cli.inspect:inspect", "Look at hosts themselves.", "Running it"),
    "cordon": Verb("sandboxer.cli.cordon:cordon", "Place nothing new on hosts.", "Running it"),
    "uncordon": Verb("sandboxer.cli.cordon:uncordon", "Let hosts take sandboxes again.", "Running it"),
    "drain": Verb("sandboxer.cli.drain:drain", "Have every sandbox leave a host.", "Running it"),
    "reap-stale": Verb("sandboxer.cli.stale:reap_stale", "Remove what belongs to no sandbox.", "Running it"),
    "adopt": Verb("sandboxer.cli.adopt:adopt", "Rebuild lost objects from what hosts list.", "Running it"),
    "backup": Verb("sandboxer.cli.backup:backup", "Copy the store into a file.", "Running it"),
    "restore-store": Verb("sandboxer.cli.backup:restore_store", "Make a backup the store.", "Running it"),
    "doctor": Verb("sandboxer.cli.doctor:doctor", "Check this installation.", "Running it"),
    "completion": Verb("sandboxer.cli.shell:completion", "Print a completion script.", "Running it"),
    "version": Verb("sandboxer.cli.shell:version", "Print the version.", "Running it"),
}  # fmt: skip

# Exit status of a program that a closed pipe ended, as a shell reports it: 128 + SIGPIPE.
BROKEN_PIPE = 141


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one verb."""
        del ctx
        if (verb := VERBS.get(cmd_name)) is None:
            return None
        module, attribute = verb.target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one may have been meant."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"no such command: {args[0]}. {did_you_mean(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview, grouped by use."""
        del ctx
        for group in dict.fromkeys(verb.group for verb in VERBS.values()):
            with formatter.section(group):
                formatter.write_dl(
                    [(name, verb.summary) for name, verb in VERBS.items() if verb.group == group]
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes."""
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in Exit])
            formatter.write_paragraph()
            formatter.write_text("exec and ssh pass the exit code of the command they ran.")


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="sandboxer %(version)s")
def cli() -> None:
    """
    Sandboxes on machines you own, declared in YAML and kept as declared.

    With no arguments, `sandboxer create` makes a canary that proves this machine works.
    """


def main() -> NoReturn:
    """Run the command line and end the process with the exit code of `sandboxer.cli.exits`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are printed to stderr."""
    try:
        code = cli.main(arguments, prog_name="sandboxer", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("error: interrupted; nothing was undone", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # NOTE: the interpreter flushes stdout once more at exit and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except BaseExceptionGroup as group:
        return _failed(_first(group))
    except Exception as error:  # noqa: BLE001 - the last line before the interpreter: a person reads it
        return _failed(error)
    return code if isinstance(code, int) else Exit.OK


def _first(group: BaseExceptionGroup) -> BaseException:
    """Return the first error of a group that says something to a person."""
    flat = list(_leaves(group))
    return next((error for error in flat if isinstance(error, SandboxerError)), flat[0])


def _leaves(group: BaseExceptionGroup) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _failed(error: BaseException) -> int:
    if os.environ.get("SANDBOXER_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, Waiting):
        click.echo(f"error: {error.message}", err=True)
        return Exit.TRANSIENT
    if not isinstance(error, SandboxerError):
        return _bug(error)
    click.echo(f"error: {error.message}", err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)
    return exit_of(error)


def _bug(error: BaseException) -> int:
    where = _save(error)
    click.echo(
        f"error: an error in sandboxer itself: {type(error).__name__}: {error}"
        + (f" (details in {where})" if where else " (SANDBOXER_DEBUG=1 shows where)"),
        err=True,
    )
    return Exit.BUG


def _save(error: BaseException) -> Path | None:
    """Append the traceback to the log beside the store; None when that is impossible."""
    text = "".join(traceback.format_exception(error))
    try:
        path = settings_from_environment().data_dir / "errors.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {' '.join(sys.argv[1:2])}\n{text}\n")
    except (OSError, SandboxerError):
        return None
    return path
