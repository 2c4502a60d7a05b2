"""The way to each host, through a relay in a thread of its own, so that it can be slow or break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.rig import Relay, Rig


class Relays:
    """
    One relay for each host.

    Args:
        relays: By name of the host; open.
        loop: The loop they live on, in another thread.
    """

    def __init__(self, relays: Mapping[str, Relay], loop: asyncio.AbstractEventLoop) -> None:
        self._relays = relays
        self._loop = loop

    def port(self, host: str) -> int:
        """Return the port on 127.0.0.1 that leads to a host."""
        return self._relays[host].port

    def delay(self, host: str, seconds: float) -> None:
        """Let everything take that much longer, in each direction."""
        self._relays[host].delay_s = seconds

    def sever(self, host: str) -> None:
        """Break all connections there are; new ones can be made."""
        self._loop.call_soon_threadsafe(self._relays[host].sever)


@contextmanager
def opened(rig: Rig) -> Iterator[Relays]:
    """Have a relay before each host."""
    relays = {name: Relay(host.address, host.port) for name, host in rig.hosts.items()}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relays")
    thread.start()
    try:
        for relay in relays.values():
            asyncio.run_coroutine_threadsafe(relay.__aenter__(), loop).result()
        yield Relays(relays, loop)
    finally:
        for relay in relays.values():
            asyncio.run_coroutine_threadsafe(relay.__aexit__(), loop).result()
        # Aborted connections are closed by the loop's next turn.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
