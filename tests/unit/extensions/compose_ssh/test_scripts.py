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
        # Two seconds, for they are whole ones: the first may be over at once.
        ["sh", "-c", scripts.HEALTH, "sandboxer", str(engine), "1", "2", *containers],
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


def _listing(root: Path, short_id: str = "") -> list[str]:
    done = subprocess.run(
        ["sh", "-c", scripts.WORKSPACES, "sandboxer", str(root), short_id],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines()


def _workspace(root: Path, name: str) -> Path:
    directory = root / name
    (directory / "repo").mkdir(parents=True)
    (directory / ".sandboxer.json").write_text(f'{{"name":"{name}"}}')
    (directory / "manifest.json").write_text("{}\n")
    return directory


def test_workspaces_are_listed_with_what_was_made(tmp_path: Path) -> None:
    """Markers and records come whole, a manifest only of the one that is asked for."""
    first, second = (_workspace(tmp_path, name) for name in ("sbx-a", "sbx-b"))
    (first / ".made").write_text('{"containers":{}}\n')
    (second / ".suspended").touch()
    (second / "repo").rmdir()
    (tmp_path / "sbx-link").symlink_to(first)

    listed, one, none = _listing(tmp_path), _listing(tmp_path, "sbx-a"), _listing(tmp_path, "sbx-x")

    assert listed == [
        '+ {"name":"sbx-a"}', 'made sbx-a {"containers":{}}',
        '- {"name":"sbx-b"}', "empty sbx-b -", "whole - -",
    ]  # fmt: skip
    assert one == ['+ {"name":"sbx-a"}', "= {}", 'made sbx-a {"containers":{}}', "whole - -"]
    assert none == ["whole - -"]


def test_only_limits_that_changed_are_told(tmp_path: Path) -> None:
    """A file of a cgroup is compared with what it said; no other file of the machine is read."""
    # Files of the two layouts that do not change by themselves.
    known = ("notify_on_release", "cgroup.controllers")
    files = (path for name in known for path in Path("/sys/fs/cgroup").rglob(name))
    held = next(path for path in files if _first_line(path))
    said = _first_line(held)
    secret = tmp_path / "secret"
    secret.write_text("hidden\n")
    lines = [
        "{}",
        f"limit a1 memory {held} {said}",
        f"limit a1 pids {held} another value",
        f"limit a1 cpu {secret} 1",
        f"limit a1 cpu /sys/fs/cgroup/../..{secret} 1",
        "limit a1 cpu /sys/fs/cgroup/nothing 1",
        f"limit a1 cpu {held}",
        "nonsense",
    ]
    (_workspace(tmp_path, "sbx-a") / ".made").write_text("\n".join(lines) + "\n")

    told = [line for line in _listing(tmp_path) if line.startswith("limit")]

    assert told == [f"limit sbx-a a1 pids another value|{said}"]


def _first_line(path: Path) -> str:
    try:
        return (path.read_text().splitlines() or [""])[0]
    except (OSError, UnicodeDecodeError):
        return ""
