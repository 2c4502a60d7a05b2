"""`make demo`: choose the story this machine allows, tell it, and clean up."""

from __future__ import annotations

import signal
import sys
import time

from examples.demo.compose_story import tell_compose_story
from examples.demo.local_story import tell_local_story
from examples.demo.stage import DemoError, open_stage
from tests.rig import Rig, RigError
from tests.rig.install import install_missing, why_not


def main() -> int:
    """Tell the story and return the exit status."""
    # Being ended by a program cleans up just as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        reason = why_not()
        if reason:
            _without_host(reason)
        else:
            _with_host()
    except (DemoError, RigError) as err:
        print(f"\nDemo failed: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything the demo made is removed.", file=sys.stderr)
        return 130
    print(f"\nDone in {time.monotonic() - started:.0f} s. Everything the demo made is removed.")
    return 0


def _with_host() -> None:
    if not install_missing():
        raise RigError("packages are missing, see above.")
    print("# Bringing up a host: its own network, sshd, podman and disk.", flush=True)
    with Rig.start(1) as rig, open_stage() as stage:
        tell_compose_story(stage, rig)


def _without_host(reason: str) -> None:
    with open_stage() as stage:
        tell_local_story(stage)
    print(
        f"\n# Not shown: a compose sandbox on a host over real SSH, because {reason}\n"
        "# With root, or with a Host of your own, it is the same commands."
    )


if __name__ == "__main__":
    raise SystemExit(main())
