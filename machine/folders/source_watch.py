"""Notice when a shared directory of this host is removed, replaced or unmounted, or does not answer."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from enum import StrEnum

from machine.folders.sources import ANSWER_S, DirectoryId, not_answering
from machine.model.folders import Folder


class SourceChange(StrEnum):
    """What has happened to a directory of this host since it was shared."""

    REMOVED = "removed"
    REPLACED = "replaced"
    SILENT = "silent"

    def message(self, source: str) -> str:
        """Return the change as a message for users."""
        match self:
            case SourceChange.REMOVED:
                return f"the folder {source} was removed from this host"
            case SourceChange.REPLACED:
                return (
                    f"the folder {source} was replaced, mounted or unmounted on this host after the machine started; "
                    "restart the machine to share the directory that is there now"
                )
            case SourceChange.SILENT:
                return not_answering(source)


class SourceWatch:
    """Finds out whether the paths of shared folders still lead to the directories that were shared."""

    def __init__(self, *, answer_s: float = ANSWER_S) -> None:
        self._answer_s = answer_s
        self._shared: dict[Folder, DirectoryId] = {}
        self._looking: dict[Folder, asyncio.Future[DirectoryId | None]] = {}

    def note(self, folder: Folder, directory_id: DirectoryId) -> None:
        """Note that from now on, the directory with this id is shared for the folder."""
        self._shared[folder] = directory_id

    def forget(self, folder: Folder) -> None:
        self._shared.pop(folder, None)

    async def change(self, folder: Folder) -> SourceChange | None:
        """Return what has happened to a shared directory, or None if the folder's path still leads to it."""
        looking = self._looking.get(folder)
        if looking is None:
            looking = self._looking[folder] = _look(folder.source)
        try:
            async with asyncio.timeout(self._answer_s):
                found = await asyncio.shield(looking)
        except TimeoutError:
            return SourceChange.SILENT
        del self._looking[folder]
        if found is None:
            return SourceChange.REMOVED
        if found != self._shared.setdefault(folder, found):
            return SourceChange.REPLACED
        return None


def _look(path: str) -> asyncio.Future[DirectoryId | None]:
    """Find out in a thread which directory is at a path. Even if the thread hangs, this program can end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[DirectoryId | None] = loop.create_future()

    def answer(directory_id: DirectoryId | None) -> None:
        if not future.done():
            future.set_result(directory_id)

    def look() -> None:
        try:
            found = os.stat(path)  # noqa: PTH116
            directory_id: DirectoryId | None = (found.st_dev, found.st_ino)
        except OSError:
            directory_id = None
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(answer, directory_id)

    threading.Thread(target=look, daemon=True).start()
    return future
