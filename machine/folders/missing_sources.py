"""Look for directories of this host that were missing when the machine started."""

from __future__ import annotations

import asyncio
import logging

from machine.folders.source_watch import SourceChange, SourceWatch
from machine.folders.sources import Source, not_answering, resolve_in_time
from machine.folders.table import FolderTable, ProblemOf
from machine.model.folders import Folder

log = logging.getLogger(__name__)


class MissingSources:
    """Finds out whether a folder that could not be shared at the start could be shared now, by a restart.

    Such a folder has no transport. If it has none for another reason than its directory, its problem stays.
    """

    def __init__(self, folders: FolderTable, watch: SourceWatch) -> None:
        self._folders = folders
        self._watch = watch
        self._missing: set[Folder] = set()

    async def check(self) -> None:
        """Look at the directory of each folder that has no transport, and note what is wrong with it now."""
        for each in self._folders:
            if each.transport:
                continue
            problem = await self._problem(each.folder)
            if problem and problem != each.problem:
                log.info("%s: %s", each.folder.source, problem)
                self._folders.set_problem(each.folder, ProblemOf.SOURCE, problem)
                self._folders.save()

    async def _problem(self, folder: Folder) -> str | None:
        """Return what is wrong with a folder's directory, or None if it has been there all the time."""
        # Only one thread at a time waits for a file system that does not answer.
        if await self._watch.change(folder) is SourceChange.SILENT:
            found = None
        else:
            found = await asyncio.to_thread(resolve_in_time, folder, [each.folder for each in self._folders])
        if not isinstance(found, Source):
            self._missing.add(folder)
            return found.reason if found else not_answering(folder.source)
        if folder in self._missing:
            return f"the folder {folder.source} is on this host now; restart the machine to share it"
        return None
