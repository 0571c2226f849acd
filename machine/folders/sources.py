"""Find the directory of this host that a folder shares, or the reason why the directory cannot be shared."""

from __future__ import annotations

import errno
import os
import queue
import re
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from machine.errors import reason_of
from machine.model.folders import Folder, covers
from machine.model.obstacle import Obstacle

_OF_PROCESS = re.compile(r"/proc/[0-9]+(/|$)")
# As many as Linux follows.
_MAX_LINKS = 40
ANSWER_S = 5.0
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


DirectoryId = tuple[int, int]
"""The device and inode of a directory, which tell it from another directory that has the same path at another time."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A directory of this host that can be shared."""

    path: str
    """The path of the directory, without symbolic links."""

    directory_id: DirectoryId


def resolve_source(path: str) -> Source | Obstacle:
    """Follow the symbolic links of a path. Return the directory at the end, or the reason why it cannot be shared."""
    try:
        real = os.path.realpath(path, strict=True)
        # Unlike stat(2), this mounts what autofs mounts on demand; it does not wait for a writer of a FIFO.
        descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return _obstacle(path, error)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if _OF_PROCESS.match(real):
        what = path if path == real else f"{path} leads to {real}, which"
        return Obstacle(f"{what} belongs to a process and ends with it", "share another folder")
    if not os.access(real, os.X_OK):
        return _no_access(path)
    return Source(path=real, directory_id=(found.st_dev, found.st_ino))


def resolve_guarded(folder: Folder, folders: Iterable[Folder]) -> Source | Obstacle:
    """Return the directory of a folder that was checked earlier, or an obstacle if a guest may have redirected it.

    `folders` are all folders of the machine. In a folder that is not read-only, the guest can make symbolic links.
    """
    found = resolve_source(folder.source)
    if isinstance(found, Obstacle) or found.path == folder.source:
        return found
    writable = [other.source for other in folders if other != folder and not other.read_only]
    reals = {place for source in writable for place in (source, os.path.realpath(source))}
    for link in islice(_links(folder.source), _MAX_LINKS):
        if any(covers(place, link) for place in reals):
            return Obstacle(
                f"{link} is a symbolic link inside another shared folder, where the guest may have made it",
                "if you trust the link, share the folder again",
            )
    return found


def resolve_in_time(folder: Folder, folders: Collection[Folder], *, timeout_s: float = ANSWER_S) -> Source | Obstacle:
    """Return what `resolve_guarded` returns, or an obstacle if the file system does not answer within `timeout_s`."""
    answers: queue.SimpleQueue[Source | Obstacle] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(resolve_guarded(folder, folders))
        except OSError as error:  # links were changed meanwhile
            answers.put(_obstacle(folder.source, error))

    # A system call may hang for ever, in a thread that does not keep this program from ending.
    threading.Thread(target=resolve, daemon=True).start()
    try:
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        return Obstacle(not_answering(folder.source))


def probe_sources(folders: Collection[Folder]) -> dict[Folder, Source | Obstacle]:
    """Map each folder to its directory, or to the reason why it cannot be shared."""
    return {folder: resolve_in_time(folder, folders) for folder in folders}


def not_answering(source: str) -> str:
    """Return the message that tells users that a shared directory does not answer."""
    return f"the folder {source} does not answer on this host"


def _links(path: str) -> Iterator[str]:
    """Yield all symbolic links that are followed on the way to an existing path."""
    done, waiting = "/", path.split("/")[::-1]
    while waiting:
        name = waiting.pop()
        here = os.path.join(done, name)  # noqa: PTH118
        if name == "..":
            done = os.path.dirname(done)  # noqa: PTH120
        elif name in ("", "."):
            continue
        elif os.path.islink(here):  # noqa: PTH114
            yield here
            text = os.readlink(here)  # noqa: PTH115
            done = "/" if text.startswith("/") else done
            waiting += text.split("/")[::-1]
        else:
            done = here


def _obstacle(path: str, error: OSError) -> Obstacle:
    is_link = os.path.islink(path)  # noqa: PTH114
    match error.errno:
        case errno.ENOENT if is_link:
            return Obstacle(f"{path} is a symbolic link to {_text(path)}, which does not exist on this host")
        case errno.ENOENT:
            return Obstacle(f"the folder {path} does not exist on this host", "create the folder, or share another one")
        case errno.ELOOP:
            return Obstacle(f"{path} is a loop of symbolic links", "share the directory itself")
        case errno.ENOTDIR:
            return _no_directory(path)
        case errno.EACCES | errno.EPERM:
            return _no_access(path)
        case _:
            return Obstacle(f"the folder {path} cannot be read: {reason_of(error)}")


def _text(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:  # removed meanwhile
        return "a path"


def _no_access(path: str) -> Obstacle:
    return Obstacle(f"you have no permission to read the folder {path}")


def _no_directory(path: str) -> Obstacle:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        mode = 0
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind:
        return Obstacle(f"{path} is {kind}; only directories can be shared")
    return Obstacle(f"{path} is not a directory", "share the directory that contains it")
