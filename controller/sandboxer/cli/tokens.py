"""`token`: who may use the API over the network, and how far."""

from __future__ import annotations

import click

from sandboxer.api.tokens import Role, Token, TokenFile
from sandboxer.cli.exits import Exit
from sandboxer.cli.options import DURATION
from sandboxer.cli.printing import write
from sandboxer.clock import SystemClock
from sandboxer.settings import settings_from_environment
from sandboxer.units import Duration, format_duration


@click.group()
def token() -> None:
    """
    Manage the tokens of this controller's API.

    They are kept in the data directory of this machine, as hashes; a running controller notices a
    change at once.
    """


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "viewer"]),
    default="viewer",
    show_default=True,
    help="An admin may do everything, a viewer may look.",
)
@click.option(
    "--ttl", type=DURATION, help="How long it works, such as 30d; for ever when left out."
)
def create(name: str, role: Role, ttl: Duration | None) -> int:
    """Make a token for NAME and print it, once."""
    made = _file().create(name, role, ttl_s=ttl.seconds if ttl else None)
    write(f"{made}\n")
    click.echo("Only its hash is kept: this is the only time it is shown.", err=True)
    return Exit.OK


@token.command("list")
def list_() -> int:
    """List the tokens there are."""
    rows = [("NAME", "ROLE", "AGE", "EXPIRES"), *map(_row, _file().list())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        write("   ".join(cells).rstrip() + "\n")
    return Exit.OK


@token.command()
@click.argument("name")
def delete(name: str) -> int:
    """Take the token of NAME away; who uses it is refused from now on."""
    _file().delete(name)
    write(f"token/{name} deleted\n")
    return Exit.OK


def _file() -> TokenFile:
    return TokenFile(settings_from_environment().tokens_path, SystemClock())


def _row(found: Token) -> tuple[str, str, str, str]:
    now = SystemClock().now()
    age = format_duration((now - found.created).total_seconds())
    return found.name, found.role, age, _expiry(found)


def _expiry(found: Token) -> str:
    if found.expires is None:
        return "never"
    left = (found.expires - SystemClock().now()).total_seconds()
    return f"in {format_duration(left)}" if left > 0 else "expired"
