"""What happens to hosts and to the controller, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.e2e.installation import Installation
from tests.rig import Rig
from tests.rig.host import ENGINE_SOCKET
from tests.soak.relays import Relays
from tests.soak.schedule import Stroke

# Of the packets of a lossy host, the part that is lost: SSH barely lives with it.
_LOST_SHARE: Final = 0.2

# Seconds that a slow host adds in each direction, a few steps up to what a probe hardly bears.
_DELAYS_S: Final = (0.05, 0.2, 0.8, 2.0)

# Kinds during which a host cannot be asked anything by SSH.
SILENCING: Final = frozenset({"cut", "drop", "reset", "hang", "off", "lossy"})

_SERVE: Final = (
    "(pgrep -a -x podman | grep -q 'system service' || "
    f"exec setsid podman system service --time=0 unix://{ENGINE_SOCKET}) "
    "</dev/null >/run/podman/log 2>&1 &"
)

_THAW: Final = "podman ps -q --filter status=paused | xargs -r podman unpause"


@dataclass
class Trouble:
    """
    Does strokes to hosts and to the controller.

    Args:
        rig: The hosts.
        relays: The ways to them.
        installation: Whose controller it is.
        options: What the controller is started with.
    """

    rig: Rig
    relays: Relays
    installation: Installation
    options: tuple[str, ...]
    silent: set[str] = field(default_factory=set)
    """Hosts that cannot be asked now."""
    runs: bool = False
    """Whether a controller was started and not ended by us since."""
    starts: int = 0

    def strike(self, stroke: Stroke) -> bool:
        """Begin or end a stroke; False when it is not one of these."""
        table = self._cures() if stroke.cures else self._begins()
        act = table.get(stroke.kind)
        if act is None:
            return False
        if stroke.kind in SILENCING:
            (self.silent.discard if stroke.cures else self.silent.add)(stroke.host)
        act(stroke)
        return True

    def start(self) -> None:
        """Start a controller, unless one runs."""
        if not self.runs:
            self.installation.start(*self.options)
            self.runs, self.starts = True, self.starts + 1

    def end_all(self) -> None:
        """Cure everything that may be wrong."""
        for name in self.rig.hosts:
            self.relays.delay(name, 0.0)
            self.rig.heal(name)
            self._serve(name)
        self.silent.clear()
        self.start()

    def _begins(self) -> Mapping[str, Callable[[Stroke], None]]:
        rig = self.rig
        return {
            "cut": lambda stroke: rig.cut(stroke.host),
            "drop": lambda stroke: rig.drop(stroke.host),
            "reset": lambda stroke: rig.reset(stroke.host),
            "hang": lambda stroke: rig.hang(stroke.host),
            "lossy": lambda stroke: rig.lossy(stroke.host, _LOST_SHARE),
            "delay": self._slow,
            "sever": lambda stroke: self.relays.sever(stroke.host),
            "off": self._power_off,
            "fill": lambda stroke: rig.fill(stroke.host),
            "engine": self._kill_engine,
            "crash": lambda _: self._crash(),
            "restart": lambda _: self._restart(),
        }

    def _cures(self) -> Mapping[str, Callable[[Stroke], None]]:
        rig = self.rig
        return {
            "cut": lambda stroke: rig.mend(stroke.host),
            "drop": lambda stroke: rig.unlossy(stroke.host),
            "reset": lambda stroke: rig.unlossy(stroke.host),
            "hang": lambda stroke: rig.unhang(stroke.host),
            "lossy": lambda stroke: rig.unlossy(stroke.host),
            "delay": lambda stroke: self.relays.delay(stroke.host, 0.0),
            "off": lambda stroke: rig.boot(stroke.host),
            "fill": lambda stroke: rig.unfill(stroke.host),
            "engine": lambda stroke: self._serve(stroke.host),
            "crash": lambda _: self.start(),
        }

    def _slow(self, stroke: Stroke) -> None:
        self.relays.delay(stroke.host, _DELAYS_S[stroke.draw % len(_DELAYS_S)])

    def _power_off(self, stroke: Stroke) -> None:
        # NOTE: all hosts run on this machine's kernel, which would keep a paused container's frozen
        # cgroup, and then the container never starts again. A machine that loses power does not.
        self.rig.ssh(stroke.host, _THAW)
        self.rig.kill(stroke.host)

    def _kill_engine(self, stroke: Stroke) -> None:
        """Kill the engine's service and whatever command of it runs; containers live on."""
        self.rig.ssh(stroke.host, "pkill -9 -x podman")

    def _serve(self, host: str) -> None:
        if self.rig.hosts[host].engine_socket:
            self.rig.ssh(host, _SERVE)

    def _crash(self) -> None:
        self.installation.kill()
        self.runs = False

    def _restart(self) -> None:
        if self.runs:
            self.installation.stop()
            self.runs = False
        self.start()
