"""Remember image files on this host, so that an unchanged file is not read again.

The file `files.json` beside a base image lists the files from which the image was made, each by its inode, size and
times. `files.json` is removed together with the base image. If it is lost, the files are only read once more.
"""

from __future__ import annotations

import json
import stat
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

from machine.files import write_atomic
from machine.image.base import BaseImage

_FILE = "files.json"
_MAX_FILES = 16
# A change within the resolution of a file system's times would not show; Linux stamps files every 1 to 10 ms.
_SETTLED_NS = 100_000_000


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """Properties of a file. One of them changes when the file is replaced or the file's content is changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return the stamp of a file, or None for a block device, whose stamp would not change with its content."""
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return None
        return cls(
            device=found.st_dev,
            inode=found.st_ino,
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
        )

    @property
    def is_settled(self) -> bool:
        """Whether the file's last change is so long ago that every later change will change the file's stamp."""
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > _SETTLED_NS


def is_made_from(base: BaseImage, stamp: FileStamp) -> bool:
    """Return whether a base image was made from the file that has this stamp."""
    return list(astuple(stamp)) in _stamps(base)


def remember(base: BaseImage, stamp: FileStamp) -> None:
    """Write to `files.json` beside a base image which file it was made from. The file is known by its stamp."""
    own = list(astuple(stamp))
    others = [entry for entry in _stamps(base) if entry != own]
    write_atomic(base.path.with_name(_FILE), json.dumps([own, *others][:_MAX_FILES]) + "\n")


def _stamps(base: BaseImage) -> list[object]:
    try:
        stamps = json.loads(base.path.with_name(_FILE).read_bytes())
    except (OSError, ValueError):
        return []
    return stamps if isinstance(stamps, list) else []
