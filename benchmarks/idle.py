"""
What idling costs: processor time of a controller that keeps 2,000 local sandboxes, and its probes.

The controller runs as a process of its own, with a real store and real ext.local sandboxes. Its
share of one core is read from /proc/PID/stat (proc(5)), with and without the children it started
and reaped. Probes are counted from outside, by the children the probe needs: the work root is
probed by one script per host and interval, however many sandboxes there are.

    python benchmarks/idle.py [--sandboxes 2000] [--window 60]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

# Share of one core that the controller may use while nothing happens.
TARGET_PERCENT = 2.0

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Seconds; 2,000 sandboxes are made one process after the other on two cores.
SETUP_LIMIT_S = 3600.0


class CPU(NamedTuple):
    """Processor seconds a process has used."""

    own_s: float
    children_s: float
    """Of children that have ended and were waited for."""


def cpu_of(pid: int) -> CPU:
    """Read utime, stime, cutime and cstime: fields 14 to 17 of /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    utime, stime, cutime, cstime = (int(field) / TICKS_PER_S for field in fields[11:15])
    return CPU(utime + stime, cutime + cstime)


def manifests(count: int, work_root: Path) -> str:
    host = {
        "apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "local"},
        "spec": {"transport": "local", "workRoot": str(work_root), "capacity": {"sandboxes": 10000}},
    }  # fmt: skip
    sandboxes = [
        {
            "apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox",
            "metadata": {"name": f"idle-{number:04}"},
            "spec": {"profile": "profile.local", "inputs": {"isolation": "none"}},
        }
        for number in range(count)
    ]  # fmt: skip
    return "\n---\n".join(json.dumps(document) for document in [host, *sandboxes])


class Controller:
    """`sandboxer controller run` in a data directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._environment = os.environ | {"SANDBOXER_DATA_DIR": str(directory / "data")}
        self._log = (directory / "controller.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandboxer", "controller", "run"],
            env=self._environment, stderr=self._log,
        )  # fmt: skip

    def sandboxer(self, *arguments: str) -> str:
        """Run one command and return its standard output."""
        return subprocess.run(
            [sys.executable, "-m", "sandboxer", *arguments],
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
        ).stdout  # fmt: skip

    def ready(self) -> int:
        """Return how many sandboxes are Ready."""
        phases = self.sandboxer("get", "sandboxes", "-o", "jsonpath={.items[*].status.phase}")
        return phases.split().count("Ready")

    def revision(self) -> int:
        """Return the newest resourceVersion of any object."""
        path = "jsonpath={.items[*].metadata.resourceVersion}"
        return max(int(word) for word in self.sandboxer("get", "all", "-o", path).split())

    def stop(self) -> None:
        """End it with SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


def probes_during(pid: int, seconds: float) -> int:
    """Count the shells the controller starts: one for each probe script and each observe."""
    seen: set[tuple[int, str]] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid:
                # NOTE: field 22, the start time, tells a reused process id from the same process.
                seen.add((int(child), fields[19]))
        time.sleep(0.002)
    return len(seen)


def measure(controller: Controller, window_s: float) -> float:
    pid = controller.process.pid
    revision, before = controller.revision(), cpu_of(pid)
    started = time.monotonic()
    time.sleep(window_s)
    elapsed_s, after = time.monotonic() - started, cpu_of(pid)
    own = 100 * (after.own_s - before.own_s) / elapsed_s
    children = 100 * (after.children_s - before.children_s) / elapsed_s
    writes = controller.revision() - revision
    counted_s = 60.0
    started_processes = probes_during(pid, counted_s)
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    print(f"controller alone          {own:6.2f} % of one core")
    print(f"its probes (children)     {children:6.2f} % of one core")
    print(f"together                  {own + children:6.2f} %   (target < {TARGET_PERCENT} %)")
    print(f"store writes in {window_s:.0f} s     {writes:6d}")
    print(f"processes started in {counted_s:.0f} s {started_processes:5d}   (probe interval 15 s)")
    print(f"memory                    {int(rss) / 1024:6.0f} MiB", flush=True)
    return own + children


def main() -> int:
    parser = argparse.ArgumentParser(description="What idling costs.")
    parser.add_argument("--sandboxes", type=int, default=2000)
    parser.add_argument("--window", type=float, default=120.0, help="seconds measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        controller = Controller(root)
        try:
            (root / "all.yaml").write_text(manifests(options.sandboxes, root / "work"))
            return run(controller, root, options.sandboxes, options.window)
        finally:
            controller.sandboxer("delete", "sandboxes", "--all", "--timeout", "1h")
            controller.stop()


def run(controller: Controller, root: Path, count: int, window_s: float) -> int:
    started = time.monotonic()
    controller.sandboxer("apply", "-f", str(root / "all.yaml"), "-o", "name")
    while (ready := controller.ready()) < count:
        if time.monotonic() - started > SETUP_LIMIT_S:
            print(f"only {ready} of {count} became Ready")
            return 1
        time.sleep(2)
    print(f"{count} sandboxes Ready after {time.monotonic() - started:.0f} s", flush=True)
    time.sleep(30)  # two probe intervals, so that nothing of the setup is measured
    share = measure(controller, window_s)
    return 0 if share < TARGET_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
