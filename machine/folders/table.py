"""The table of a running machine's folders, with the problem that each of them has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from machine.folders.handover import save_folders
from machine.folders.source_watch import SourceChange
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder


class FolderTable:
    """A machine's folders. After each change of a problem, `on_problem` is called with the first problem, or None."""

    def __init__(
        self, folders: Sequence[MountedFolder], state_file: Path, *, on_problem: Callable[[str | None], None]
    ) -> None:
        self._folders = list(folders)
        self._state_file = state_file
        self._on_problem = on_problem
        self.lost: dict[Folder, SourceChange] = {}
        """The folders whose shared directory has gone or does not answer, each with what has happened."""

    def __iter__(self) -> Iterator[MountedFolder]:
        return iter(tuple(self._folders))

    def __contains__(self, folder: Folder) -> bool:
        return any(each.folder == folder for each in self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def get(self, folder: Folder) -> MountedFolder:
        """Return the entry of a folder that is in the table."""
        return next(each for each in self._folders if each.folder == folder)

    def at(self, target: str) -> MountedFolder | None:
        """Return the entry of the folder that the guest mounts at `target`, or None if there is no such folder."""
        return next((each for each in self._folders if each.folder.target == target), None)

    def add(self, mounted: MountedFolder) -> None:
        self._folders.append(mounted)

    def replace(self, mounted: MountedFolder) -> None:
        """Put `mounted` in the place of its folder's present entry."""
        self._folders[self._folders.index(self.get(mounted.folder))] = mounted

    def drop(self, mounted: MountedFolder) -> None:
        self._folders.remove(mounted)
        self.lost.pop(mounted.folder, None)

    def set_problem(self, folder: Folder, problem: str | None) -> None:
        """Note why the guest cannot use a folder, or by None that it can, unless the shared directory is lost."""
        if problem is None and folder in self.lost:
            problem = self.lost[folder].message(folder.source)
        with contextlib.suppress(StopIteration):  # removed meanwhile
            self.replace(replace(self.get(folder), problem=problem))
            self.report()

    def report(self) -> None:
        self._on_problem(next((each.problem for each in self._folders if each.problem), None))

    def save(self) -> None:
        """Write the table to the state file, from which a supervisor that adopts the guest reads it."""
        save_folders(self._folders, self._state_file)
