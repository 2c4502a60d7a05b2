"""Scripts that can be judged without a host."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sandboxer_extensions.compose_ssh import scripts

# Containers; four are checked at a time, so that all of them would take ten seconds.
CONTAINERS = 40


def test_health_checks_that_hang_do_not_hold_up_the_look(tmp_path: Path) -> None:
    """Once the time is over no check is begun, and what is known of all containers is printed."""
    engine, log = tmp_path / "engine", tmp_path / "log"
    engine.write_text(
        "#!/bin/sh\n"
        f'case $1 in healthcheck) echo "$3" >>{log}; exec sleep 600 ;; *) echo "$@" ;; esac\n'
    )
    engine.chmod(0o755)
    containers = [f"c{number}" for number in range(CONTAINERS)]

    done = subprocess.run(
        ["sh", "-c", scripts.HEALTH, "sandboxer", str(engine), "1", "1", *containers],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    begun = log.read_text().split()
    assert 0 < len(begun) < CONTAINERS
    assert done.stdout.split()[-CONTAINERS:] == containers
