"""Probe directories and their file systems without changing anything. A directory need not exist yet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from machine.files import broken_link


@dataclass(frozen=True, kw_only=True)
class DirectoryFacts:
    """Facts about a directory or, if the directory does not exist, about its nearest existing parent."""

    path: Path
    nearest: Path
    """The directory itself or, if it does not exist, its nearest existing parent. Other facts describe `nearest`."""

    is_directory: bool
    writable: bool
    owner: int
    """The user ID of the owner of `nearest`."""

    free_bytes: int
    file_system: str | None
    """The type of the file system, such as `ext4`; None if unknown."""

    broken_link: str | None = None
    """What `files.broken_link` says of the directory."""

    @property
    def exists(self) -> bool:
        return self.nearest == self.path


def probe_directory(path: Path, mounts: dict[Path, str]) -> DirectoryFacts:
    """Probe a directory. `mounts` maps mount points to types of file systems, as `file_systems` returns them.

    Raises:
        OSError: the directory cannot be probed.
    """
    nearest = next(candidate for candidate in (path, *path.parents) if _exists(candidate))
    facts, volume = nearest.stat(), os.statvfs(nearest)
    return DirectoryFacts(
        path=path,
        nearest=nearest,
        is_directory=nearest.is_dir(),
        writable=os.access(nearest, os.W_OK | os.X_OK),
        owner=facts.st_uid,
        free_bytes=volume.f_bavail * volume.f_frsize,
        file_system=file_system_of(nearest.resolve(), mounts),
        broken_link=broken_link(path),
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # permission denied on a parent
        return False


def file_system_of(path: Path, mounts: dict[Path, str]) -> str | None:
    """Return the type of the file system that contains an absolute, resolved path, or None if unknown (pure)."""
    return next((mounts[place] for place in (path, *path.parents) if place in mounts), None)


def file_systems() -> dict[Path, str]:
    """Return the type of the topmost file system at each mount point."""
    import psutil

    return {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
