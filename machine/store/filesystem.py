"""Facts about a directory, also one that does not exist yet, without touching it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DirectoryFacts:
    """What the host says of a directory or, where it does not exist, of the nearest one above it."""

    path: Path
    nearest: Path
    """The directory itself, or the nearest existing path above it: all the other facts are about this one."""

    is_directory: bool
    writable: bool
    owner: int
    """The user ID of its owner."""

    free_bytes: int
    file_system: str | None
    """The kind of file system; None where the host does not say."""

    @property
    def exists(self) -> bool:
        return self.nearest == self.path


def probe_directory(path: Path, mounts: dict[Path, str]) -> DirectoryFacts:
    """Ask the host about a directory; `mounts` are its mounted file systems.

    Raises:
        OSError: the host does not answer.
    """
    nearest = next(candidate for candidate in (path, *path.parents) if _is_there(candidate))
    facts, volume = nearest.stat(), os.statvfs(nearest)
    return DirectoryFacts(
        path=path,
        nearest=nearest,
        is_directory=nearest.is_dir(),
        writable=os.access(nearest, os.W_OK | os.X_OK),
        owner=facts.st_uid,
        free_bytes=volume.f_bavail * volume.f_frsize,
        file_system=file_system_of(nearest.resolve(), mounts),
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a directory above may not be searched
        return False


def file_system_of(path: Path, mounts: dict[Path, str]) -> str | None:
    """Return the kind of file system that holds an absolute path without links; None where no mount does (pure)."""
    return next((mounts[place] for place in (path, *path.parents) if place in mounts), None)


def file_systems() -> dict[Path, str]:
    """Return the kind of each file system by its mount point; at one mount point the last one counts."""
    import psutil

    return {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
