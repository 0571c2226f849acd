"""Watch a directory of this host and all directories below it, with Linux's inotify(7)."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator

from inotify_simple import INotify, flags

log = logging.getLogger(__name__)

_REMOVED = flags.DELETE | flags.MOVED_FROM
_ADDED = flags.CREATE | flags.MOVED_TO
# Without changes of attributes: the guest makes some when a change is passed on, and they would come back here.
_EVENTS = flags.MODIFY | flags.CLOSE_WRITE | _ADDED | _REMOVED
_MASK = _EVENTS | flags.ONLYDIR | flags.DONT_FOLLOW | flags.EXCL_UNLINK

# The kernel grants a user at least 8192 watches (max_user_watches), for everything that the user runs.
MAX_DIRECTORIES = 8192


class Watcher:
    """Watches a directory and all directories below it. Paths are relative to the directory, which itself is `.`."""

    def __init__(self, directory: str) -> None:
        """Make a watcher that watches nothing until `watch_all` is called.

        Raises:
            OSError: this user has as many inotify instances as the kernel permits.
        """
        self._root = directory
        self._directories: dict[int, str] = {}
        self._full = False
        self._inotify = INotify(nonblocking=True)

    @property
    def descriptor(self) -> int:
        """A descriptor that can be read as soon as something in the directory has changed."""
        return self._inotify.fileno()

    def close(self) -> None:
        """End all watches."""
        self._inotify.close()

    @property
    def is_full(self) -> bool:
        """Whether there are more directories than the kernel lets this user watch."""
        return self._full

    def watch_all(self) -> None:
        """Watch all existing directories, which takes a while if there are many."""
        for _ in self._watch_below(""):
            pass

    def read(self) -> set[str]:
        """Return the files that have changed since the last call, and the directories that have lost an entry."""
        changed: set[str] = set()
        for watch, mask, _, name in self._inotify.read(timeout=0):
            if mask & flags.Q_OVERFLOW:
                changed.add("")
            elif mask & flags.IGNORED:
                self._directories.pop(watch, None)
            elif watch in self._directories:
                changed.update(self._changed(self._directories[watch], name, mask))
        return {path or "." for path in changed}

    def _changed(self, directory: str, name: str, mask: int) -> Iterator[str]:
        path = os.path.join(directory, name)  # noqa: PTH118
        yield directory if mask & _REMOVED else path
        if mask & flags.ISDIR and mask & _ADDED:
            yield from self._watch_below(path)

    def _watch_below(self, directory: str) -> Iterator[str]:
        """Watch a directory and all directories below it. Yield the files in all of them.

        These files count as changed, because they may have been made before their directory was watched.
        """
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

    def _watch(self, path: str) -> bool:
        """Watch one directory. Return False if no more directories can be watched, else True."""
        full = os.path.join(self._root, path)  # noqa: PTH118
        try:
            if len(self._directories) >= MAX_DIRECTORIES:
                raise OSError(errno.ENOSPC, "too many directories")
            self._directories[self._inotify.add_watch(full, _MASK)] = path
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._full = True
                return False
            log.debug("not watched: %s: %s", full, error)  # removed meanwhile, or not readable
        return True
