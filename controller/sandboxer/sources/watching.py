"""
Waking a directory source early: file system events are a hint, never the truth.

The directory is watched, and its parent too, because a directory that is renamed away, made anew
or reached through a link that is flipped gives no event of its own. The watch of the directory is
opened anew whenever its identity (path behind links, inode) changes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from watchfiles import awatch

# Milliseconds. A burst of changes is reported after this, and the watcher looks at its queue this
# often; looking takes 0.1 % of a core at 25 ms, 0.5 % at 5 ms (watchfiles 1.3).
_DEBOUNCE_MS = 50
_STEP_MS = 25

# Milliseconds; a renamed directory may wait a little longer, and the watch costs less.
_PARENT_STEP_MS = 50

# No watches left, no permission, gone between the look and the watch: the periodic look has to do.
# Opening a watch raises OSError, a watch that breaks raises a RuntimeError inside a group.
_CANNOT_WATCH = (OSError, RuntimeError)

_log = logging.getLogger(__name__)


class DirectoryWatcher:
    """
    Sets `woken` when something below *root* may have changed.

    Args:
        root: The directory, which may be missing.
    """

    def __init__(self, root: Path) -> None:
        self.woken = asyncio.Event()
        self._root = root
        self._identity = _identity(root)
        self._moved = asyncio.Event()
        self._looked = asyncio.Event()

    def after_look(self) -> None:
        """Notice that the directory became another one during a look, and try what failed again."""
        self._looked.set()
        self._check_identity()

    def _check_identity(self) -> None:
        identity = _identity(self._root)
        if identity != self._identity:
            self._identity = identity
            self._moved.set()
            self.woken.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_parent())
            tasks.create_task(self._watch_root())

    async def _watch_parent(self) -> None:
        try:
            async for _ in awatch(
                self._root.absolute().parent, recursive=False, watch_filter=None,
                debounce=_DEBOUNCE_MS, step=_PARENT_STEP_MS,
            ):  # fmt: skip
                self._check_identity()
        except* _CANNOT_WATCH as errors:
            self._report(self._root.absolute().parent, errors)

    async def _watch_root(self) -> None:
        while True:
            self._moved.clear()
            if self._identity is None:
                await self._moved.wait()
                continue
            failed = False
            # What changed between the last look and the opening of this watch gave no event. The
            # call comes after the opening, which is done before `awatch` waits for the first time.
            opened = asyncio.get_running_loop().call_soon(self.woken.set)
            try:
                async for _ in awatch(
                    self._identity[0], watch_filter=None, stop_event=self._moved,
                    debounce=_DEBOUNCE_MS, step=_STEP_MS,
                ):  # fmt: skip
                    self.woken.set()
            except* _CANNOT_WATCH as errors:
                self._report(self._root, errors)
                opened.cancel()
                self._looked.clear()
                failed = True
            if failed:
                await self._looked.wait()

    @staticmethod
    def _report(path: Path, errors: ExceptionGroup[Exception]) -> None:
        _log.warning(
            "A directory cannot be watched, so changes are seen at the next periodic look only",
            extra={"directory": str(path), "error": repr(errors.exceptions[0])},
        )


def _identity(root: Path) -> tuple[Path, int, int] | None:
    """Return what the directory is behind its name; None when there is none."""
    try:
        # Not Path.resolve: for a loop of links it raises RuntimeError before Python 3.13.
        real = Path(os.path.realpath(root, strict=True))
        status = real.stat()
    except OSError:
        return None
    return real, status.st_dev, status.st_ino
