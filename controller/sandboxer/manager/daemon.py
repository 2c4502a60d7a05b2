"""The daemon: sources, engine, sinks, API and housekeeping in one task group, ended by a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxer.api.app import create_app
from sandboxer.api.server import APIServer, Endpoint, Exposure, open_endpoint
from sandboxer.api.tokens import TokenFile
from sandboxer.clock import Clock
from sandboxer.errors import ConflictError, SandboxerError, TerminalError
from sandboxer.manager.builtins import builtin_resources, register_builtins
from sandboxer.manager.engine import running
from sandboxer.sinks.configuration import configured_sinks
from sandboxer.sinks.sinks import Sinks
from sandboxer.sources.directory import DirectorySource
from sandboxer.store import KeyLocks

if TYPE_CHECKING:
    from sandboxer.manager.manager import Manager

logger = logging.getLogger(__name__)

# Seconds between two compactions of the change feed and of old events.
COMPACT_S = 600.0

EXPOSED = "The API can be reached from other machines; whoever has an admin's token has the hosts"


class Daemon:
    """One run of the controller over an open manager."""

    def __init__(
        self,
        manager: Manager,
        locks: KeyLocks,
        clock: Clock,
        *,
        orphan_grace_s: float | None = None,
    ) -> None:
        self._manager = manager
        self._orphan_grace_s = orphan_grace_s
        self._locks = locks
        self._clock = clock
        self._stopping = asyncio.Event()
        # Warnings with their fields, said once everything runs.
        self._remarks: dict[str, Mapping[str, object]] = {}

    async def run(
        self,
        specs: Sequence[Path],
        *,
        partial: bool = False,
        allow_empty: bool = False,
        exposure: Exposure | None = None,
    ) -> None:
        """
        Work until a signal.

        Args:
            specs: Directories whose manifests are kept.
            partial: Apply what is right in a directory although something in it is wrong.
            allow_empty: An empty directory means that nothing is wanted.
            exposure: Where to serve the API on the network besides the Unix socket.

        Raises:
            ConflictError: There is a controller already, or the port is taken.
            TerminalError: The address or a certificate cannot be used.
            InvalidSpecError: A sink cannot be used.
        """
        self._become_controller()
        manager = self._manager
        tokens = TokenFile(manager.settings.tokens_path, self._clock)
        endpoint = self._endpoint(exposure, tokens) if exposure else None
        server = APIServer(
            create_app(manager.store, registry=manager.registry, entrance=manager.entrance),
            manager.settings.socket_path,
            (endpoint, tokens) if endpoint else None,
        )
        sinks = self._sinks()
        async with server.serving():
            sources = self._sources(specs, partial=partial, allow_empty=allow_empty)
            await self._work(server, sources, sinks, self._facts(specs, endpoint))
        logger.info("The controller has stopped")

    async def _work(
        self,
        server: APIServer,
        sources: Sequence[DirectorySource],
        sinks: Sinks,
        facts: Mapping[str, object],
    ) -> None:
        """Do everything but serving; requests are let in once there is something to be served."""
        manager = self._manager
        await sinks.register()
        await register_builtins(manager.store, builtin_resources(manager.registry))
        # What was loaded lives as long as the process; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(source.run(), name=source.source) for source in sources]
            background.append(tasks.create_task(self._compact(), name="compaction"))
            background.append(tasks.create_task(sinks.run(), name="sinks"))
            engine = manager.engine(lambda _: True, orphan_grace_s=self._orphan_grace_s)
            async with running(engine) as reconciling:
                self._listen_to_signals()
                server.open()
                self._report_start(facts)
                await self._until_stopped(reconciling)
                server.close()
                for task in background:
                    task.cancel()
            await asyncio.wait(background)

    def _endpoint(self, exposure: Exposure, tokens: TokenFile) -> Endpoint | None:
        """Listen on the network; None when the port is taken and need not be ours."""
        try:
            endpoint = open_endpoint(self._manager.settings, exposure, tokens, clock=self._clock)
        except ConflictError as error:
            if not exposure.may_be_taken:
                raise
            self._remarks["The API is served on its Unix socket only"] = {"why": str(error)}
            return None
        if not endpoint.address.is_loopback:
            self._remarks[EXPOSED] = {"address": str(endpoint.address)}
        return endpoint

    def _become_controller(self) -> None:
        manager = self._manager
        if not self._locks.try_controller():
            pid = manager.controller_pid()
            who = f"process {pid}" if pid else "another process"
            raise ConflictError(
                f"cannot run the controller: {who} is already the controller of "
                f"{manager.settings.data_dir}.",
                reason="ControllerRuns",
                remedy=f"Stop it{f' (kill {pid})' if pid else ''}, or use another SANDBOXER_DATA_DIR.",
            )
        descriptor = os.open(manager.pid_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{os.getpid()}\n")

    def _sources(
        self, specs: Sequence[Path], *, partial: bool, allow_empty: bool
    ) -> list[DirectorySource]:
        sources = [
            DirectorySource(
                self._manager.store, root,
                clock=self._clock, partial=partial, allow_empty=allow_empty,
            )
            for root in specs
        ]  # fmt: skip
        # A directory named twice is one source: two would write the same inventory.
        return list({source.source: source for source in sources}.values())

    def _sinks(self) -> Sinks:
        """Return who is told what happens, with a remark for each that is told in the clear."""
        found = configured_sinks(self._manager.settings)
        if plain := ",".join(sink.name for sink in found if not sink.is_encrypted):
            self._remarks["Events are sent over http, which others can read"] = {"sinks": plain}
        return Sinks(self._manager.store, found, clock=self._clock)

    def _facts(self, specs: Sequence[Path], endpoint: Endpoint | None) -> Mapping[str, object]:
        """Return what is said once everything runs."""
        settings = self._manager.settings
        kubeconfig = endpoint.kubeconfig if endpoint else None
        return {
            "pid": os.getpid(),
            "data_dir": str(settings.data_dir),
            "socket": str(settings.socket_path),
            "api": endpoint.address.url if endpoint else "",
            "kubeconfig": str(kubeconfig or ""),
            "specs": ",".join(str(root) for root in specs),
            "extensions": ",".join(sorted(self._manager.registry.extensions)),
        }

    def _report_start(self, facts: Mapping[str, object]) -> None:
        logger.info("The controller runs", extra=facts)
        for remark, extra in self._remarks.items():
            logger.warning(remark, extra=extra)
        for name, problem in self._manager.registry.problems.items():
            logger.warning(
                "An extension could not be loaded", extra={"extension": name, "error": problem}
            )

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: signal.Signals) -> None:
        """Begin to stop; the next signal finds its default action and ends the process at once."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        logger.info("Stopping; running passes may finish", extra={"signal": number.name})
        self._stopping.set()

    async def _until_stopped(self, reconciling: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        broken = asyncio.create_task(self._manager.store.broken())
        await asyncio.wait([stopping, broken, reconciling], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if broken.done():
            raise TerminalError(
                "the controller ends: its store cannot be written any more.",
                reason="StoreBroken",
                remedy="Start it again; the log has the cause.",
            )
        broken.cancel()
        if reconciling.done():
            reconciling.result()

    async def _compact(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(COMPACT_S):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return
            try:
                await self._manager.store.compact()
            except SandboxerError as error:
                # A store that is locked, or full, for a moment; the next time does this one's work.
                logger.warning("The store cannot be compacted", extra={"error": str(error)})
