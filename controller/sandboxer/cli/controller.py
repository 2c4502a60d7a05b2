"""`controller run`: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_manager
from sandboxer.cli.exits import Exit
from sandboxer.cli.logs import LogFormat, configure
from sandboxer.cli.options import DURATION
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.api.server import Exposure
    from sandboxer.manager import Manager


def _exposure(listen: str | None, tls_names: tuple[str, ...]) -> Exposure | None:
    from sandboxer.api.listening import DEFAULT_ADDRESS, parse_address
    from sandboxer.api.server import Exposure

    if listen == "none":
        return None
    address = parse_address(listen) if listen else DEFAULT_ADDRESS
    return Exposure(address, tls_names, may_be_taken=listen is None)


@click.group()
def controller() -> None:
    """Run the controller."""


@controller.command()
@click.option(
    "--specs",
    "specs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep what the manifests in DIR say, recursively; may be repeated.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="Apply the good manifests of a --specs directory although others are broken.",
)
@click.option(
    "--allow-empty",
    is_flag=True,
    help="Take an empty --specs directory as the wish for nothing, not as a mistake.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Serve the API over TLS here; `none` serves the Unix socket only. 127.0.0.1:7443 when left "
    "out, and the Unix socket only if that is taken.",
)
@click.option(
    "--tls-san",
    "tls_names",
    multiple=True,
    metavar="NAME",
    help="Another host name or address for the certificate; may be repeated.",
)
@click.option(
    "--orphan-grace",
    type=DURATION,
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="Remove what carries our label on a host, and belongs to no sandbox, after this time.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the log on stderr.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log passes that change nothing, too.")
def run(
    specs: tuple[Path, ...],
    log_format: LogFormat,
    listen: str | None,
    tls_names: tuple[str, ...],
    orphan_grace: Duration,
    *,
    partial: bool,
    allow_empty: bool,
    verbose: bool,
) -> int:
    """
    Reconcile until SIGTERM or SIGINT: the daemon.

    It watches --specs, reconciles every object, and serves the API: on a Unix socket in the data
    directory, and over TLS to who shows a token. A first signal lets running passes finish, a second
    one ends at once. One controller runs per data directory.
    """
    configure(log_format, verbose=verbose)
    exposure = _exposure(listen, tls_names)

    async def work(manager: Manager) -> int:
        await manager.run(
            specs=specs,
            partial=partial,
            allow_empty=allow_empty,
            exposure=exposure,
            orphan_grace_s=orphan_grace.seconds,
        )
        return Exit.OK

    return with_manager(work)
