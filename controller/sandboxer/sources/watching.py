"""
Waking a directory source early: file system events are a hint, never the truth.

The directory is watched, and its parent too, because a directory that is renamed away, made anew
or reached through a link that is flipped gives no event of its own. The watch of the directory is
opened anew whenever its identity (path behind links, inode) changes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from watchfiles import awatch

# Milliseconds. Quiet time after which a burst of changes is reported, and how often the watcher
# looks at its queue: 6 ms from write to event were measured with 50/5, 70 ms with the defaults.
_DEBOUNCE_MS = 50
_STEP_MS = 5

# Milliseconds; a renamed directory may wait a little longer, and the watch costs less.
_PARENT_STEP_MS = 50


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

    def check_identity(self) -> None:
        """Notice that the directory is another one now, or there again; call after each look."""
        identity = _identity(self._root)
        if identity != self._identity:
            self._identity = identity
            self._moved.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_parent())
            tasks.create_task(self._watch_root())

    async def _watch_parent(self) -> None:
        if not self._root.parent.is_dir():
            return  # the periodic look has to do
        async for _ in awatch(
            self._root.parent, recursive=False, watch_filter=None,
            debounce=_DEBOUNCE_MS, step=_PARENT_STEP_MS,
        ):  # fmt: skip
            self.check_identity()
            if self._moved.is_set():
                self.woken.set()

    async def _watch_root(self) -> None:
        while True:
            self._moved.clear()
            if self._identity is None:
                await self._moved.wait()
                continue
            try:
                async for _ in awatch(
                    self._identity[0], watch_filter=None, stop_event=self._moved,
                    debounce=_DEBOUNCE_MS, step=_STEP_MS,
                ):  # fmt: skip
                    self.woken.set()
            except OSError:
                # It went away between the look and the watch.
                self._identity = None


def _identity(root: Path) -> tuple[Path, int, int] | None:
    """Return what the directory is behind its name; None when there is none."""
    try:
        real = root.resolve(strict=True)
        status = real.stat()
    except OSError:
        return None
    return real, status.st_dev, status.st_ino
