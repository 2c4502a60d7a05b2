"""Scripts that can be judged without a host."""

from __future__ import annotations

import os
import subprocess
import time
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


def test_the_kernel_log_names_whom_it_killed_and_when(tmp_path: Path) -> None:
    """Each container among those asked for that the log names is printed with the time of its kill."""
    up_s = int(float(Path("/proc/uptime").read_text().split()[0]))
    ago_s = min(100, up_s)
    kill = f"[ {up_s - ago_s}.649133] oom-kill:constraint=MEMCG,oom_memcg=/libpod-{{}},task=tail"
    lines = ["[ 1.2] usb 1-1: new device", kill.format("aaa"), kill.format("ccc"), "oom-kill: bbb"]
    log = tmp_path / "log"
    log.write_text("\n".join(lines) + "\n")
    program = tmp_path / "dmesg"
    program.write_text(f"#!/bin/sh\ncat {log}\n")
    program.chmod(0o755)

    done = subprocess.run(
        ["sh", "-c", scripts.MEMORY_KILLS, "sandboxer", "aaa", "bbb"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    (line,) = done.stdout.splitlines()
    id_, at_s = line.split()
    assert id_ == "aaa"
    assert abs(time.time() - ago_s - int(at_s)) < 60


def test_a_kernel_log_that_may_not_be_read_says_nothing(tmp_path: Path) -> None:
    """Without the right to read it, or without the program, nothing is printed and nothing fails."""
    (tmp_path / "dmesg").write_text(
        "#!/bin/sh\necho 'dmesg: Operation not permitted' >&2\nexit 1\n"
    )
    (tmp_path / "dmesg").chmod(0o755)

    done = subprocess.run(
        ["sh", "-c", scripts.MEMORY_KILLS, "sandboxer", "aaa"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
