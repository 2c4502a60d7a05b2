"""
What can be done to a host: cut it off, slow it down, hang it, take its power, fill its disk.

Every fault has its cure, and `heal` cures all of them. Delay and cuts in the middle of a stream
are in `relay.py`, because not every kernel can delay packets.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.rig.commands import RigError, run_as_root
from tests.rig.host import SSH_PORT, RigHost


class Faults:
    """The faults of a set of hosts, by name of the host."""

    def __init__(self, hosts: Mapping[str, RigHost]) -> None:
        self.hosts = hosts

    def cut(self, name: str) -> None:
        """Pull the cable: packets vanish in both directions, nothing is told to anybody."""
        run_as_root("ip", "link", "set", self._cable(name), "down")

    def mend(self, name: str) -> None:
        """Plug the cable in again."""
        run_as_root("ip", "link", "set", self._cable(name), "up")

    def drop(self, name: str) -> None:
        """Drop what arrives for the SSH server; everything else goes through."""
        self._filter(name, "-A", "-j", "DROP")

    def undrop(self, name: str) -> None:
        """Undo `drop`."""
        self._filter(name, "-D", "-j", "DROP")

    def reset(self, name: str) -> None:
        """Answer every packet for the SSH server with a TCP reset."""
        self._filter(name, "-A", "-j", "REJECT", "--reject-with", "tcp-reset")

    def unreset(self, name: str) -> None:
        """Undo `reset`."""
        self._filter(name, "-D", "-j", "REJECT", "--reject-with", "tcp-reset")

    def lossy(self, name: str, share: float) -> None:
        """Lose this share (0 to 1) of the packets for the SSH server, at random."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
        self._filter(name, "-A", *chance, "-j", "DROP")

    def unlossy(self, name: str) -> None:
        """Remove every packet filter of the host, also those of `drop` and `reset`."""
        self._in_namespace(name, "iptables", "-w", "-F", "INPUT")

    def hang(self, name: str) -> None:
        """Stop the SSH server: connections are accepted by the kernel and never answered."""
        run_as_root("kill", "-STOP", self._listener(name))

    def unhang(self, name: str) -> None:
        """Let the SSH server go on."""
        run_as_root("kill", "-CONT", self._listener(name))

    def kill(self, name: str) -> None:
        """Take the power away: containers and sessions die at once, the disk stays."""
        self.hosts[name].kill()

    def boot(self, name: str) -> None:
        """Switch the host on again and wait for its SSH server."""
        self.hosts[name].boot()

    def fill(self, name: str) -> None:
        """Leave no byte free on the host's disk."""
        filler = str(self.hosts[name].directory / "disk" / "filler")
        run_as_root("dd", "if=/dev/zero", f"of={filler}", "bs=1M", check=False)

    def unfill(self, name: str) -> None:
        """Free the disk again."""
        run_as_root("rm", "-f", str(self.hosts[name].directory / "disk" / "filler"))

    def heal(self, name: str) -> None:
        """Cure every fault: on, connected, answering, with room on its disk."""
        self.mend(name)
        self.unlossy(name)
        self.unfill(name)
        host = self.hosts[name]
        if host.pid1() is not None:
            self.unhang(name)
        host.boot()

    def _cable(self, name: str) -> str:
        host = self.hosts[name]
        return host.slot.interface(host.name)

    def _listener(self, name: str) -> str:
        pid1 = self.hosts[name].pid1()
        # NOTE: the oldest sshd below PID 1 listens; sessions are its children, not PID 1's.
        listener = run_as_root("pgrep", "-o", "-x", "-P", str(pid1), "sshd", check=False).strip()
        if not listener:
            raise RigError(f"{name} has no SSH server: it is off. Boot it first.")
        return listener

    def _filter(self, name: str, action: str, *rest: str) -> None:
        match = ("INPUT", "-p", "tcp", "--dport", str(SSH_PORT))
        self._in_namespace(name, "iptables", "-w", action, *match, *rest)

    def _in_namespace(self, name: str, *command: str) -> None:
        run_as_root("ip", "netns", "exec", self.hosts[name].namespace, *command)
