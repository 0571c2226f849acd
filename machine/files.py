"""Write files so that a crash, a full disk or ^C leaves either the old content or the new."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from machine.errors import DiskError, NotWritableError, Page, reason_of

FILE_PRIVATE = 0o600
FILE_PUBLIC = 0o644
DIRECTORY_PRIVATE = 0o700
DIRECTORY_PUBLIC = 0o755
_FICLONE = 0x40049409  # ioctl_ficlonerange(2)


def current_directory() -> str | None:
    """Return the path of the current directory, or None if it has been removed."""
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return None


def make_directory(path: Path, *, mode: int = DIRECTORY_PUBLIC) -> None:
    """Create a directory and its missing parents, all with this mode. If the directory exists, do nothing.

    With a umask of 0, `Path.mkdir(parents=True)` would make parents that everybody could write to.

    Raises:
        OSError: a directory cannot be created.
    """
    try:
        path.mkdir(mode=mode)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_directory(path.parent, mode=mode)
        path.mkdir(mode=mode, exist_ok=True)
    except OSError:
        if not path.is_dir():
            raise


def open_created(path: Path, mode: str, *, permissions: int = FILE_PRIVATE) -> IO[bytes]:
    """Open a binary file for writing. If this creates the file, the file gets these permissions, whatever the umask is.

    Raises:
        OSError: the file cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, permissions)

    return cast("IO[bytes]", open(path, mode, opener=opener))


def fsync_directory(path: Path) -> None:
    """Flush the file names in a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Flush the content of a file to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_DESCRIPTORS = (Path("/dev/fd"), Path("/proc/self/fd"))
_NOT_WAITING = (Path("/dev/stdin"), Path(os.devnull))


def is_readable_kind(path: Path) -> bool:
    """Return whether a file can be read to its end without waiting for another program, as a FIFO's reader does.

    Descriptors that this program has been given, as by a shell's `<(…)`, can be read. Return True if the path cannot be
    examined or is a directory, so that opening it tells why it cannot be read.
    """
    if path.parent in _DESCRIPTORS or path in _NOT_WAITING:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in lower-case hex."""
    import hashlib  # not for `machine ls`

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def share_blocks(source: Path, target: Path) -> bool:
    """Clone a file to the new file `target`, which shares its blocks. Return False if the file system cannot."""
    return _clone_on_macos(source, target) if sys.platform == "darwin" else _clone_on_linux(source, target)


def _clone_on_macos(source: Path, target: Path) -> bool:
    import ctypes  # not for `machine ls`

    result: int = ctypes.CDLL(None).clonefile(os.fsencode(source), os.fsencode(target), 0)
    return result == 0


def _clone_on_linux(source: Path, target: Path) -> bool:
    import fcntl

    with source.open("rb") as reading, target.open("xb") as writing:
        os.fchmod(writing.fileno(), FILE_PRIVATE)
        try:
            fcntl.ioctl(writing, _FICLONE, reading.fileno())
        except OSError:
            target.unlink()
            return False
    return True


_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
# Where a link leads nowhere, mkdir says that there is something, and open that there is nothing.
_NOT_THERE = (errno.EEXIST, errno.ENOENT)


def broken_link(path: Path) -> str | None:
    """Describe the part of a path that is a symbolic link to nothing. Return None if no part is."""
    for part in (path, *path.parents):
        if os.path.islink(part) and not os.path.exists(part):  # noqa: PTH110, PTH114  (they raise no errors)
            return f"{part} is a symbolic link to {part.readlink()}, which does not exist"
    return None


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError in the block into a DiskError. The block writes the file `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"no space left on the disk that holds {path.parent}",
                hint="free some space and try again",
                page=Page.HOST_DISK_FULL,
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise NotWritableError(f"cannot write {path}: {reason_of(error)}") from error
        if error.errno in _NOT_THERE and (broken := broken_link(path)):
            raise NotWritableError(f"cannot write {path}: {broken}") from error
        raise


@contextlib.contextmanager
def atomic_writer(path: Path, *, mode: int = FILE_PRIVATE) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the name `path` only when the block ends without an error."""
    # Not tempfile: importing it takes `machine ls` longer than the rest of this module.
    name = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    with disk_errors(path):
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_PRIVATE)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), mode)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        fsync_directory(path.parent)


def write_atomic(path: Path, data: bytes | str, *, mode: int = FILE_PRIVATE) -> None:
    """Replace the content of `path` with `data`.

    Raises:
        DiskError: the disk is full or `path` cannot be written.
    """
    with atomic_writer(path, mode=mode) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)
