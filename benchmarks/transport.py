"""
What the kept connection buys, as ratios between arms of one interleaved run on a loopback sshd.

    python -m benchmarks.transport [ROUNDS]

Arms: a fresh `ssh` per command against an exec on the kept connection; `podman ps` over that
connection against the engine's REST list through it. Absolute times are this machine's.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandboxer.kinds.host import Host
from sandboxer.telemetry.probe import read_facts, read_pulse
from sandboxer.transport import Connections, HostSession
from sandboxer.transport.engine_socket import EngineSocket
from sandboxer.transport.rest import RestEngine
from tests.integration.loopback_sshd import LoopbackSSHD

Arm = Callable[[], Awaitable[object]]


async def measure(arms: dict[str, Arm], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each arm; the arms take turns."""
    samples: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        await arm()
    for _ in range(rounds):
        for name, arm in arms.items():
            started = time.perf_counter()
            await arm()
            samples[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(values) for name, values in samples.items()}


def fresh_ssh(server: LoopbackSSHD, host: Host) -> Arm:
    """Return the naive arm: one `ssh` process per command."""
    known_hosts = server.directory / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    options = [f"-oUserKnownHostsFile={known_hosts}", f"-oIdentityFile={server.identity}"]
    target = [f"-p{server.port}", f"{host.spec.user}@127.0.0.1"]
    argv = ["ssh", "-F/dev/null", "-oBatchMode=yes", *options, *target, "true"]
    return lambda: asyncio.to_thread(subprocess.run, argv, check=True, stdin=subprocess.DEVNULL)


async def main(rounds: int) -> None:
    """Print one line per comparison."""
    with tempfile.TemporaryDirectory() as directory:
        server = LoopbackSSHD(Path(directory))
        server.start()
        connections = Connections()
        try:
            await compare(server, connections, rounds)
        finally:
            await connections.close()
            server.stop()


async def compare(server: LoopbackSSHD, connections: Connections, rounds: int) -> None:
    """Measure all arms and print the ratios."""
    host = server.host()
    link = await connections.link(host)
    facts = await read_facts(link, host, None)
    session = HostSession(connections, host=host, facts=facts, engine=None)
    engine = RestEngine("h1", EngineSocket(connections, host, facts).open)
    arms: dict[str, Arm] = {
        "ssh fork": fresh_ssh(server, host),
        "kept exec": lambda: session.run(["true"]),
        "pulse": lambda: read_pulse(link, facts.work_root),
    }
    if facts.engine == "podman" and facts.engine_socket:
        arms["podman ps"] = lambda: session.run(["podman", "ps", "-a", "--format", "json"])
        arms["REST list"] = lambda: engine.get("/containers/json", query={"all": "true"})
    medians = await measure(arms, rounds)
    await engine.close()
    for name, median_ms in medians.items():
        print(f"{name:10} {median_ms:8.2f} ms")
    print(f"kept exec is {medians['ssh fork'] / medians['kept exec']:.0f} x a fresh ssh")
    if "REST list" in medians:
        print(f"REST list is {medians['podman ps'] / medians['REST list']:.0f} x podman ps")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
