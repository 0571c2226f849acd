"""What can be said of a directory, also of one that is not there yet, without touching it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_MACOS_MOUNT = re.compile(r".+? on (?P<where>/.*) \((?P<kind>[^,)]+)[^)]*\)")


@dataclass(frozen=True, kw_only=True)
class DirectoryFacts:
    """`nearest` is the directory itself, or what is there of the path to it; the other facts are of that.

    `owner` is a user's id, `file_system` is empty where the host does not tell.
    """

    path: Path
    nearest: Path
    is_directory: bool
    writable: bool
    owner: int
    free_bytes: int
    file_system: str

    @property
    def exists(self) -> bool:
        return self.nearest == self.path


def probe_directory(path: Path, mounts: dict[Path, str]) -> DirectoryFacts:
    """Raises:
    OSError: the host does not tell.
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


def file_system_of(path: Path, mounts: dict[Path, str]) -> str:
    """The kind of the file system that holds an absolute path without links; empty where no mount does (pure)."""
    return next((mounts[place] for place in (path, *path.parents) if place in mounts), "")


def read_mounts() -> str:
    """Linux's list of mounts; empty where there is none."""
    try:
        return _MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:
        return ""


def parse_mountinfo(text: str) -> dict[Path, str]:
    """The kind of each file system by the place where it is mounted; of several at one place the last is seen (pure).

    The lines are those of proc(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
    """
    mounts = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split()
        if len(words) > 4 and kind:
            mounts[Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), words[4]))] = kind[0]
    return mounts


def parse_mount(text: str) -> dict[Path, str]:
    """The same of what `mount` prints on macOS: `/dev/disk3s5 on /System/Volumes/Data (apfs, local)` (pure)."""
    found = (_MACOS_MOUNT.fullmatch(line) for line in text.splitlines())
    return {Path(match["where"]): match["kind"] for match in found if match}
