"""The table of a running machine's folders, with the problems that each of them has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

from machine.folders.handover import save_folders
from machine.folders.source_watch import SourceChange
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder


class ProblemOf(IntEnum):
    """What a folder's problem is about, the worst first. Whoever finds out about one of them reports about it alone."""

    DAEMON = 1
    """The folder's virtiofsd."""

    SOURCE = 2
    """The directory on this host."""

    MOUNT = 3
    """The guest's mount."""


class FolderTable:
    """A machine's folders. After each change of a problem, `on_problem` is called with the worst problem, or None.

    A folder can have several problems at once, each about another thing. Its entry names the worst.
    """

    def __init__(
        self, folders: Sequence[MountedFolder], state_file: Path, *, on_problem: Callable[[str | None], None]
    ) -> None:
        self._folders = list(folders)
        self._problems = {
            (each.folder, ProblemOf.DAEMON if each.transport else ProblemOf.SOURCE): each.problem
            for each in folders
            if each.problem
        }
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
        for about in ProblemOf:
            self._problems.pop((mounted.folder, about), None)

    def set_problem(self, folder: Folder, about: ProblemOf, problem: str | None) -> None:
        """Note a problem of a folder, or by None that it does not have this problem any more."""
        if folder not in self:  # removed meanwhile
            return
        self._problems.pop((folder, about), None)
        if problem:
            self._problems[folder, about] = problem
        self.replace(replace(self.get(folder), problem=self._worst([folder])))
        self.report()

    def has_problem(self, folder: Folder, *abouts: ProblemOf) -> bool:
        """Return whether a folder has a problem that is about one of these things."""
        return any((folder, about) in self._problems for about in abouts)

    def report(self) -> None:
        self._on_problem(self._worst([each.folder for each in self._folders]))

    def _worst(self, folders: Sequence[Folder]) -> str | None:
        """Return the worst problem of these folders. Of several that are as bad, return the first folder's."""
        found = (self._problems.get((folder, about)) for about in ProblemOf for folder in folders)
        return next(filter(None, found), None)

    def save(self) -> None:
        """Write the table to the state file, from which a supervisor that adopts the guest reads it.

        Only problems that last as long as QEMU runs are written.
        """
        lasting = [
            replace(each, problem=self._problems.get((each.folder, ProblemOf.DAEMON))) if each.transport else each
            for each in self._folders
        ]
        save_folders(lasting, self._state_file)
