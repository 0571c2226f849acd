"""What changes in a directory of this host, by Linux's inotify(7): the directory itself and all below it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import struct
from collections.abc import Iterator

log = logging.getLogger(__name__)

_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
_Q_OVERFLOW, _IGNORED, _ISDIR = 0x4000, 0x8000, 0x40000000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK = 0x1000000, 0x2000000, 0x4000000
# Not of changed attributes: it is by these that the guest is told, and they come back.
_MASK = _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK

_EVENT = struct.Struct("iIII")
_READ_BYTES = 256 * 1024
# Of a user's, the kernel grants 8192 at least (max_user_watches), for everything that runs.
MAX_DIRECTORIES = 8192


class Watcher:
    """`descriptor` is readable when something has changed. Paths are relative, the directory itself is `.`."""

    def __init__(self, directory: str) -> None:
        """Raises:
        OSError: the kernel gives no more of these.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._root = os.fsencode(directory)
        self._directories: dict[int, bytes] = {}
        self._full = False
        self.descriptor = self._checked(self._libc.inotify_init1(_NONBLOCK | _CLOEXEC))

    def close(self) -> None:
        os.close(self.descriptor)

    @property
    def is_full(self) -> bool:
        """There are more directories than are watched."""
        return self._full

    def watch_all(self) -> None:
        """Watch everything that there is now; it takes a while where that is much."""
        for _ in self._watch_below(b""):
            pass

    def read(self) -> set[str]:
        """What has changed since it was asked last: files, and directories that something is gone from."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return set()
        changed: set[bytes] = set()
        position = 0
        while position < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            name = data[position : position + length].rstrip(b"\0")
            position += length
            if mask & _Q_OVERFLOW:
                changed.add(b"")
            elif mask & _IGNORED:
                self._directories.pop(watch, None)
            elif watch in self._directories:
                changed.update(self._changed(self._directories[watch], name, mask))
        return {os.fsdecode(path) or "." for path in changed}

    def _changed(self, directory: bytes, name: bytes, mask: int) -> Iterator[bytes]:
        path = os.path.join(directory, name)  # noqa: PTH118  (bytes)
        if mask & (_DELETE | _MOVED_FROM):
            yield directory
        else:
            yield path
        if mask & _ISDIR and mask & (_CREATE | _MOVED_TO):
            yield from self._watch_below(path)

    def _watch_below(self, directory: bytes) -> Iterator[bytes]:
        """Watch a directory and those below it, and return the files in them, which nobody has told of."""
        waiting = [directory]
        while waiting:
            path = waiting.pop()
            if not self._watch(path):
                return
            with contextlib.suppress(OSError), os.scandir(os.path.join(self._root, path)) as entries:  # noqa: PTH118
                for entry in entries:
                    below = os.path.join(path, entry.name)  # noqa: PTH118
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(below)
                    else:
                        yield below

    def _watch(self, path: bytes) -> bool:
        """Returns whether there is room for more."""
        full = os.path.join(self._root, path)  # noqa: PTH118
        try:
            if len(self._directories) >= MAX_DIRECTORIES:
                raise OSError(errno.ENOSPC, "too many directories")
            self._directories[self._checked(self._libc.inotify_add_watch(self.descriptor, full, _MASK))] = path
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._full = True
                return False
            log.debug("not watched: %s: %s", os.fsdecode(full), error)  # gone meanwhile, or not ours to read
        return True

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
