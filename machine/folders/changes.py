"""Tell the guest which files in shared folders the host has changed. No transport reports such changes."""

from __future__ import annotations

import asyncio
import logging
import posixpath
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from machine import async_runner
from machine.async_runner import Child
from machine.errors import MachineError, reason_of
from machine.model.folders import Folder

if TYPE_CHECKING:
    from machine.folders.inotify import Watcher

log = logging.getLogger(__name__)

# Long enough that a file written in many steps is one change.
_GATHER_S = 0.2
# When an archive is unpacked, the guest need not be woken for each file.
_MAX_PENDING = 1024


class ChangeRelay:
    """Watches folders of this host, and sends the paths of changed files to `script`, which runs in the guest.

    For a command, `ssh` returns the command line that runs it as root in the guest.
    """

    def __init__(self, ssh: Callable[[str], Sequence[str]], script: str) -> None:
        self._ssh = ssh
        self._script = script
        self._watchers: dict[Folder, Watcher] = {}
        self._pending: dict[str, None] = {}
        self._dropped = 0
        self._relaying: asyncio.Task[None] | None = None

    async def follow(self, folders: Iterable[Folder]) -> None:
        """Watch these folders instead of the previous ones, and open a new connection over which to send changes."""
        wanted = {folder for folder in folders if not folder.read_only}
        for folder in self._watchers.keys() - wanted:
            self._unwatch(folder)
        for folder in wanted - self._watchers.keys():
            await self._watch(folder)
        await self._stop_relay()
        if wanted:
            self._relaying = asyncio.create_task(self._relay())

    async def end(self) -> None:
        """Stop watching."""
        for folder in list(self._watchers):
            self._unwatch(folder)
        await self._stop_relay()

    async def _stop_relay(self) -> None:
        if self._relaying:
            self._relaying.cancel()
            await asyncio.wait([self._relaying])
            self._relaying = None

    async def _watch(self, folder: Folder) -> None:
        from machine.folders.inotify import MAX_DIRECTORIES, Watcher  # inotify_simple works on Linux only

        try:
            watcher = Watcher(folder.source)
        except OSError as error:
            log.warning("changes in %s are not passed on to the guest: %s", folder.source, reason_of(error))
            return
        self._watchers[folder] = watcher
        await asyncio.to_thread(watcher.watch_all)
        if watcher.is_full:
            log.warning("%s has more than %d directories, so not all are watched", folder.source, MAX_DIRECTORIES)
        asyncio.get_running_loop().add_reader(watcher.descriptor, self._read, folder, watcher)

    def _unwatch(self, folder: Folder) -> None:
        watcher = self._watchers.pop(folder)
        asyncio.get_running_loop().remove_reader(watcher.descriptor)
        watcher.close()

    def _read(self, folder: Folder, watcher: Watcher) -> None:
        for path in watcher.read():
            if len(self._pending) < _MAX_PENDING:
                self._pending[posixpath.normpath(posixpath.join(folder.target, path))] = None
            else:
                self._dropped += 1

    async def _relay(self) -> None:
        """Send changed paths to the guest until the connection to the guest ends."""
        argv = self._ssh(shlex.join(["bash", "-c", self._script]))
        try:
            async with await async_runner.spawn(argv, stdin=async_runner.PIPE) as child:
                await self._pass_on(child)
        except MachineError as error:
            log.warning("changes in folders are not passed on to the guest: %s", error)
        except OSError as error:
            log.debug("changes in folders are no longer passed on to the guest: %s", error)

    async def _pass_on(self, child: Child) -> None:
        assert child.stdin is not None
        while child.returncode is None:
            await asyncio.sleep(_GATHER_S)
            if self._dropped:
                log.info("%d changes were not passed on to the guest, because too many came at once", self._dropped)
                self._dropped = 0
            if self._pending:
                paths = b"".join(path.encode(errors="surrogateescape") + b"\0" for path in self._pending)
                self._pending.clear()
                child.stdin.write(paths)
                await child.stdin.drain()
