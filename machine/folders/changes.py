"""Changes that the host makes in its folders, passed on: no file system of these tells the guest of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import posixpath
import shlex
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterable

from machine.folders.watch import MOST_DIRECTORIES, Watcher
from machine.ignition import assets
from machine.model.folders import Folder

log = logging.getLogger(__name__)

# Long enough that a file that is written in many steps is one change.
_GATHER_S = 0.2
# More at once are not passed on: whoever unpacks a tree wakes nobody for each of its files.
_MOST_WAITING = 1024


class Changes:
    """`ssh` gives the command line that runs a command for the guest's root."""

    def __init__(self, ssh: Callable[[str], list[str]]) -> None:
        self._ssh = ssh
        self._watchers: dict[Folder, Watcher] = {}
        self._waiting: dict[str, None] = {}
        self._lost = 0
        self._teller: asyncio.Task[None] | None = None

    async def follow(self, folders: Iterable[Folder]) -> None:
        """Watch these folders and no others, and tell the guest by a new connection."""
        wanted = {folder for folder in folders if not folder.read_only}
        for folder in self._watchers.keys() - wanted:
            self._forget(folder)
        for folder in wanted - self._watchers.keys():
            await self._watch(folder)
        await self._stop_telling()
        if wanted:
            self._teller = asyncio.create_task(self._tell())

    async def end(self) -> None:
        for folder in list(self._watchers):
            self._forget(folder)
        await self._stop_telling()

    async def _stop_telling(self) -> None:
        if self._teller:
            self._teller.cancel()
            await asyncio.wait([self._teller])
            self._teller = None

    async def _watch(self, folder: Folder) -> None:
        try:
            watcher = Watcher(folder.source)
        except OSError as error:
            log.warning("changes in %s are not passed on: %s", folder.source, error.strerror)
            return
        self._watchers[folder] = watcher
        await asyncio.to_thread(watcher.watch_all)
        if watcher.is_full:
            log.warning("%s has more than %d directories: not all are watched", folder.source, MOST_DIRECTORIES)
        asyncio.get_running_loop().add_reader(watcher.descriptor, self._read, folder, watcher)

    def _forget(self, folder: Folder) -> None:
        watcher = self._watchers.pop(folder)
        asyncio.get_running_loop().remove_reader(watcher.descriptor)
        watcher.close()

    def _read(self, folder: Folder, watcher: Watcher) -> None:
        for path in watcher.read():
            if len(self._waiting) < _MOST_WAITING:
                self._waiting[posixpath.normpath(posixpath.join(folder.target, path))] = None
            else:
                self._lost += 1

    async def _tell(self) -> None:
        """For as long as the connection holds."""
        argv = self._ssh(shlex.join(["bash", "-c", assets.load("files/folder-changes.sh")]))
        try:
            process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL)
        except OSError as error:
            log.warning("changes are not passed on: %s", error.strerror)
            return
        try:
            await self._pass_on(process)
        except (OSError, ConnectionError) as error:
            log.debug("changes are not passed on any more: %s", error)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            assert process.stdin is not None
            process.stdin.transport.abort()  # what waits to be told, nobody reads any more
            await process.wait()

    async def _pass_on(self, process: Process) -> None:
        assert process.stdin is not None
        while process.returncode is None:
            await asyncio.sleep(_GATHER_S)
            if self._lost:
                log.info("%d changes at once were not passed on", self._lost)
                self._lost = 0
            if self._waiting:
                told = b"".join(path.encode(errors="surrogateescape") + b"\0" for path in self._waiting)
                self._waiting.clear()
                process.stdin.write(told)
                await process.stdin.drain()
