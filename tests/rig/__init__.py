"""
Several real hosts on one machine, for tests and for the demo.

A host is a network namespace on a bridge with its own mount, PID, UTS and IPC namespaces, its own
sshd, its own podman and its own disk. It shares the machine's programs, so nothing is installed
in it and nothing is pulled: three hosts are up in about two seconds.

    python -m tests.rig up 3          bring hosts h1, h2, h3 up and keep them
    python -m tests.rig ssh h1 podman ps
    python -m tests.rig cut h1        the network of h1 swallows every packet
    python -m tests.rig down

Tests use the session fixture `rig`. What a host is made of is in `host.py`, what can be done to
it in `faults.py`, what the machine must have in `install.py`.
"""

from __future__ import annotations

from tests.rig.commands import RigError
from tests.rig.faults import Faults
from tests.rig.host import RigHost
from tests.rig.image import IMAGE
from tests.rig.relay import Relay
from tests.rig.rig import Rig

__all__ = ["IMAGE", "Faults", "Relay", "Rig", "RigError", "RigHost"]
