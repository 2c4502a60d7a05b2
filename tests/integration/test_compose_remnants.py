"""What podman leaves when it is killed while it makes a container neither blocks nor outlives anything."""

from __future__ import annotations

from sandboxer.session import Session
from tests.integration.compose_lab import EXTENSION, h1, instance, settle, state
from tests.rig import Rig

__all__ = ["h1"]

_DATABASE = "/var/lib/containers/storage/libpod/bolt_state.db"

# A container that the storage knows and the engine's database does not, which is what a podman has
# done that dies between the two.
_LEAVE = f"""\
set -e
cp {_DATABASE} /tmp/before
podman create --name "$name" {{image}} sleep 1000
cp /tmp/before {_DATABASE}
"""

_EXTERNAL = "podman ps -a --external --format '{{.Status}} {{.Names}}'"


def _leave(rig: Rig, name: str) -> None:
    done = rig.ssh("h1", f"name={name}\n{_LEAVE.format(image=rig.image)}")
    assert done.returncode == 0, done.stderr
    assert f"Storage {name}" in rig.ssh("h1", _EXTERNAL).stdout


async def test_a_name_that_is_taken_by_a_remnant_is_freed(h1: Session, rig: Rig) -> None:
    """A sandbox whose container was begun by a podman that died comes up all the same."""
    wanted = instance(rig)
    await EXTENSION.provision(h1, wanted)
    await EXTENSION.teardown(h1, wanted)
    _leave(rig, f"{wanted.short_id}_main_1")

    await settle(lambda: EXTENSION.provision(h1, wanted))

    assert await state(h1, wanted) == "Running"
    assert "Storage" not in rig.ssh("h1", _EXTERNAL).stdout


async def test_a_remnant_goes_with_its_sandbox(h1: Session, rig: Rig) -> None:
    """Teardown takes it away, and leaves alone what another sandbox or a user has there."""
    wanted = instance(rig)
    others = ("sbx-0123456789ab_main_1", f"my-{wanted.short_id}_main_1")
    for name in (f"{wanted.short_id}_main_1", *others):
        _leave(rig, name)

    await EXTENSION.teardown(h1, wanted)

    left = [line for line in rig.ssh("h1", _EXTERNAL).stdout.splitlines() if "Storage" in line]
    assert sorted(left) == sorted(f"Storage {name}" for name in others)
