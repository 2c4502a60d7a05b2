"""`kubeconfig`: what kubectl needs to talk to this controller."""

from __future__ import annotations

from pathlib import Path

import click

from sandboxer.api.kubeconfig import Access, read_access, write_access
from sandboxer.api.tokens import TokenFile
from sandboxer.cli.exits import Exit
from sandboxer.cli.printing import write
from sandboxer.clock import SystemClock
from sandboxer.errors import InvalidSpecError, NotFoundError
from sandboxer.settings import Settings, settings_from_environment


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it there, mode 0600, instead of to stdout; nothing is merged.",
)
@click.option(
    "--server",
    metavar="URL",
    help="Address as its user will see it, such as https://sandboxes.example:7443.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="For this user, whose token is in SANDBOXER_TOKEN; admin when left out.",
)
def kubeconfig(output: Path | None, server: str | None, user: str | None) -> int:
    """
    Print the kubeconfig of this controller, its token included.

    The controller keeps one for admin in its data directory. For somebody else:

    SANDBOXER_TOKEN=$(sandboxer token create bob --role viewer) sandboxer kubeconfig --user bob
    """
    settings = settings_from_environment()
    access = _access(settings)
    if user:
        access = access._replace(user=user, token=_token_of(user, settings))
    if server:
        access = access._replace(server=_checked(server))
    if output is None:
        write(access.text())
    else:
        write_access(output, access)
        click.echo(f"written: {output}", err=True)
    return Exit.OK


def _access(settings: Settings) -> Access:
    if access := read_access(settings.kubeconfig_path):
        return access
    raise NotFoundError(
        f"there is no kubeconfig in {settings.data_dir}.",
        reason="NoKubeconfig",
        remedy="Start the controller, which makes it: sandboxer controller run",
    )


def _token_of(user: str, settings: Settings) -> str:
    found = TokenFile(settings.tokens_path, SystemClock()).find(settings.token)
    if found is None or found.name != user:
        raise InvalidSpecError(
            f"SANDBOXER_TOKEN is not the token of {user}, and only its hash is kept here.",
            remedy=f"SANDBOXER_TOKEN=$(sandboxer token create {user}) sandboxer kubeconfig "
            f"--user {user}",
        )
    return settings.token


def _checked(server: str) -> str:
    if not server.startswith("https://"):
        raise InvalidSpecError(
            f"{server!r} is not an https:// URL.",
            remedy="kubectl sends no token over anything else.",
        )
    return server
