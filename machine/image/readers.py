"""The sources that an image is unpacked from, and the threads that read them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar, cast

from machine.errors import MachineError, reason_of
from machine.files import share_blocks
from machine.image.download import Download
from machine.image.unpack import Unpacked, examine, is_packed, unpack
from machine.image.verify import SignatureCheck
from machine.image.web import CHUNK_BYTES

_TICK_S = 0.1

T = TypeVar("T")


@contextlib.contextmanager
def reading(image: Path) -> Iterator[None]:
    """Name the image if reading its content fails, as on a damaged disk. The system's error does not name it."""
    try:
        yield
    except OSError as error:
        raise MachineError(f"image {image} cannot be read: {reason_of(error)}") from error


class Source(Protocol):
    """The bytes of an artifact, which any number of readers can read. `stop` makes all readers fail."""

    @property
    def is_plain(self) -> bool:
        """Whether the bytes are those of the image itself, because the artifact is not compressed."""

    def unpack(self, target: Path, name: str) -> Unpacked:
        """Unpack the artifact into the new file `target`. In error messages, `name` stands for the artifact."""

    def reader(self) -> IO[bytes]: ...
    def stop(self) -> None: ...
    def progress(self) -> tuple[int, int | None]: ...


class FileSource:
    """A source that is a file on this host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._stopped = False
        self._position = 0
        with reading(path):
            self.is_plain = not is_packed(path)

    def unpack(self, target: Path, name: str) -> Unpacked:
        """Unpack the file into `target`. Read the file only once.

        If the file is not compressed and the file system permits it, `target` shares the file's blocks.
        """
        if self.is_plain and share_blocks(self._path, target):
            with self._open(target) as clone:
                return examine(clone, name)
        with self.reader() as reader:
            return unpack(reader, target, name)

    def reader(self) -> IO[bytes]:
        return self._open(self._path)

    def _open(self, path: Path) -> IO[bytes]:
        return cast("IO[bytes]", io.BufferedReader(_StoppableFile(self, path.open("rb", buffering=0))))

    def stop(self) -> None:
        self._stopped = True

    def progress(self) -> tuple[int, int | None]:
        return self._position, self._size

    def read_into(self, buffer: object, file: io.FileIO) -> int:
        """Read from a reader's file, and note how far the reader has read, for `progress`.

        Raises:
            MachineError: `stop` has been called, or the file cannot be read.
        """
        if self._stopped:
            raise MachineError(f"reading {self._path} was stopped")
        self._position = max(self._position, file.tell())
        with reading(self._path):
            return file.readinto(buffer) or 0  # type: ignore[arg-type]  # typed as object, but always a buffer


class _StoppableFile(io.RawIOBase):
    def __init__(self, source: FileSource, file: io.FileIO) -> None:
        super().__init__()
        self._source = source
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        return self._source.read_into(buffer, self._file)

    def close(self) -> None:
        self._file.close()
        super().close()


class DownloadSource:
    """A source whose file is still being downloaded."""

    is_plain = False  # that is not known yet

    def __init__(self, download: Download) -> None:
        self._download = download

    def unpack(self, target: Path, name: str) -> Unpacked:
        with self.reader() as reader:
            return unpack(reader, target, name)

    def reader(self) -> IO[bytes]:
        return cast("IO[bytes]", self._download.reader())

    def stop(self) -> None:
        self._download.stop()

    def progress(self) -> tuple[int, int | None]:
        """Return the number of received bytes and the file's size. Unpacking goes on at the pace of the download."""
        return self._download.received, self._download.size


class Job(threading.Thread, Generic[T]):
    """A function that runs in its own thread while the main thread only waits for the result.

    ^C raises an exception at any point of the main thread. If the main thread did the work, it might hold a lock at
    that point, which would then never be released.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._results: list[T] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._results.append(self._work())
        except Exception as error:  # noqa: BLE001  (raised by `result`)
            self._error = error

    def result(self, tick: Callable[[], None]) -> T:
        """Wait for the function's end, and return its result or raise its error. Meanwhile, call `tick` repeatedly."""
        while self.is_alive():
            self.join(_TICK_S)
            tick()
        if self._error:
            raise self._error
        return self._results[0]


@dataclass(frozen=True, kw_only=True)
class Digests:
    """The digests of a published file, computed on this host. `sha512` is None if it was not requested."""

    sha256: str
    sha512: str | None


def digest(reader: IO[bytes], check: SignatureCheck | None, *, with_sha512: bool) -> Digests:
    """Read a stream to its end, compute the digests of its content, and feed the content to `check` if there is one."""
    sha256 = hashlib.sha256()
    sha512 = hashlib.sha512() if with_sha512 else None
    with reader:
        while chunk := reader.read(CHUNK_BYTES):
            sha256.update(chunk)
            if sha512:
                sha512.update(chunk)
            if check:
                check.feed(chunk)
    return Digests(sha256=sha256.hexdigest(), sha512=sha512.hexdigest() if sha512 else None)
