"""The rig as a whole: hosts side by side on one bridge, with an image in each."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.rig import image
from tests.rig.commands import RigError, run_as_root
from tests.rig.faults import Faults
from tests.rig.host import Init, RigHost, make_key
from tests.rig.slot import Slot, take_free_slot

# What `clean` leaves of a host: nothing of ours, its image.
_CLEAN_SCRIPT = """\
podman ps -aq --external | xargs -r podman rm -f -t 0
podman pod ps -q | xargs -r podman pod rm -f -t 0
podman volume ls -q | xargs -r podman volume rm -f
podman network ls --format '{{.Name}}' | grep -vx podman | xargs -r podman network rm -f
find /build -mindepth 1 -delete
"""


class Rig(Faults):
    """
    Several hosts; `with Rig.start(3) as rig:` brings them up and takes them down.

    Attributes:
        hosts: By name, `h1` and up. The last one serves no engine socket, so that both ways of
            asking an engine are met.
        image: Name of the image every host has.
        slot: The rig's place on this machine.
    """

    image = image.IMAGE

    def __init__(
        self, slot: Slot, *, count: int, owner: int | None = None, init: Init = "catatonit"
    ) -> None:
        names = [f"h{index}" for index in range(1, count + 1)]
        super().__init__(
            {
                name: RigHost(
                    name, index, slot, engine_socket=name != names[-1] or count == 1, init=init
                )
                for index, name in enumerate(names, start=1)
            }
        )
        self.slot = slot
        self._owner = owner

    @classmethod
    def start(cls, count: int = 3, *, init: Init = "catatonit") -> Self:
        """
        Take a free slot, clean up what a killed run left there, and bring hosts up.

        Hosts whose *init* is systemd have no image and keep no containers.

        Raises:
            RigError: The machine lacks something; the message says what.
        """
        slot, owner = take_free_slot()
        rig = cls(slot, count=count, owner=owner, init=init)
        try:
            rig.up()
        except BaseException:
            rig.down()
            raise
        return rig

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def identity_file(self) -> Path:
        """Private key that may log in as root on every host."""
        return self.slot.directory / "client" / "id"

    def up(self) -> None:
        """Make all hosts anew, boot them and give them the image."""
        remove_slot(self.slot)
        client = self.slot.directory / "client"
        client.mkdir(parents=True, mode=0o700)
        make_key(self.identity_file, comment="rig")
        _make_bridge(self.slot)
        for host in self.hosts.values():
            host.create()
        known = "".join(f"{host.address} {host.host_key}\n" for host in self.hosts.values())
        (client / "known_hosts").write_text(known)
        archive = image.root_file_system()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: _boot_with_image(host, archive), self.hosts.values()))

    def down(self) -> None:
        """Remove everything of this rig and give its slot back; succeeds when there is nothing."""
        for host in self.hosts.values():
            if host.init == "systemd":
                host.remove()  # What lies in the slot does not tell that it has control groups.
        remove_slot(self.slot)
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def ssh(
        self, name: str, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line on a host; a non-zero status is returned, not raised."""
        return self.hosts[name].ssh(command, stdin=stdin, timeout_s=timeout_s)

    def clean(self, name: str) -> None:
        """
        Cure every fault and remove every container, volume, network and workspace.

        Raises:
            RigError: Something could not be removed.
        """
        self.heal(name)
        done = self.ssh(name, _CLEAN_SCRIPT)
        left = self.ssh(name, "podman ps -aq --external; podman volume ls -q; ls -A /build")
        if left.stdout.strip() or left.returncode:
            raise RigError(f"{name} is not clean: {left.stdout} {left.stderr} {done.stderr}")


def remove_slot(slot: Slot) -> None:
    """Remove everything that any rig in this slot may have left: processes, network, files."""
    for name in sorted(path.name for path in slot.directory.glob("h*")):
        RigHost(name, int(name.removeprefix("h")), slot).remove()
    run_as_root("ip", "link", "del", slot.bridge, check=False)
    if slot.directory.exists():
        run_as_root("rm", "-rf", "--one-file-system", str(slot.directory))


def existing_slot(slot: Slot) -> int:
    """Return how many hosts were made in the slot."""
    return len(list(slot.directory.glob("h*/init")))


def _make_bridge(slot: Slot) -> None:
    run_as_root("ip", "link", "add", slot.bridge, "type", "bridge")
    run_as_root("ip", "addr", "add", f"{slot.gateway}/24", "dev", slot.bridge)
    run_as_root("ip", "link", "set", slot.bridge, "up")


def _boot_with_image(host: RigHost, archive: bytes) -> None:
    host.boot()
    if host.init == "systemd":
        return
    done = host.ssh(image.import_command(), stdin=archive)
    if done.returncode:
        raise RigError(f"{host.name} cannot import the image: {done.stderr.strip()[-500:]}")
