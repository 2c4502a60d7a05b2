"""The rig on the command line: `python -m tests.rig`; see the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.rig.commands import RigError, say
from tests.rig.install import install_missing
from tests.rig.rig import Rig, existing_slot, remove_slot
from tests.rig.slot import COMMAND_LINE_SLOT, Slot

_ON_ONE_HOST = (
    "cut", "mend", "drop", "undrop", "reset", "unreset", "unlossy", "hang", "unhang", "kill",
    "boot", "fill", "unfill", "heal", "clean",
)  # fmt: skip


def main() -> int:
    """Do what the arguments say and return the exit status."""
    arguments = _parser().parse_args()
    slot = Slot(COMMAND_LINE_SLOT)
    try:
        return _dispatch(arguments, slot)
    except RigError as err:
        say(str(err))
        return 1


def _dispatch(arguments: argparse.Namespace, slot: Slot) -> int:
    command: str = arguments.command
    if command == "install":
        return 0 if install_missing() else 1
    if command == "up":
        Rig(slot, count=arguments.count).up()
    elif command == "down":
        remove_slot(slot)
    else:
        return _on_running(Rig(slot, count=existing_slot(slot)), arguments)
    return 0


def _on_running(rig: Rig, arguments: argparse.Namespace) -> int:
    command: str = arguments.command
    if command == "info":
        manifests = {name: host.manifest() for name, host in rig.hosts.items()}
        sys.stdout.write(json.dumps(manifests, indent=2) + "\n")
        return 0
    if arguments.host not in rig.hosts:
        raise RigError(f"There is no host {arguments.host!r}; there are: {', '.join(rig.hosts)}.")
    if command == "ssh":
        os.execvp("ssh", [*rig.hosts[arguments.host].ssh_command(), *arguments.remote])
    if command == "lossy":
        rig.lossy(arguments.host, arguments.share)
    else:
        getattr(rig, command)(arguments.host)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.rig", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install what the machine lacks, with apt")
    commands.add_parser("up", help="bring hosts up").add_argument(
        "count", type=int, nargs="?", default=3
    )
    commands.add_parser("down", help="take all hosts away")
    commands.add_parser("info", help="print the hosts' manifests")
    ssh = commands.add_parser("ssh", help="run a command on a host, or open a shell")
    ssh.add_argument("host")
    ssh.add_argument("remote", nargs=argparse.REMAINDER)
    lossy = commands.add_parser("lossy", help="lose a share of the packets")
    lossy.add_argument("host")
    lossy.add_argument("share", type=float)
    for name in _ON_ONE_HOST:
        commands.add_parser(name, help=getattr(Rig, name).__doc__).add_argument("host")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
