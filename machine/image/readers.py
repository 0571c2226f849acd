"""The sources that an image is unpacked from, and the threads that read them."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar, cast

from machine.errors import MachineError
from machine.files import share_blocks
from machine.image.download import Download
from machine.image.unpack import Unpacked, examine, is_packed, unpack
from machine.image.verify import SignatureCheck
from machine.image.web import CHUNK_BYTES

_TICK_S = 0.1

T = TypeVar("T")


class Source(Protocol):
    """The bytes of an artifact, for any number of readers; `stop` makes all readers fail."""

    @property
    def is_plain(self) -> bool:
        """Whether the bytes are those of the image itself, because the artifact is not compressed."""

    def unpack(self, target: Path, name: str) -> Unpacked:
        """Unpack the artifact into the new file `target`; `name` is its name in errors."""

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
        self.is_plain = not is_packed(path)

    def unpack(self, target: Path, name: str) -> Unpacked:
        """Unpack the file, or share its blocks if the file system can. In both cases the file is read once."""
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

    def advance_to(self, position: int) -> None:
        """Record the position of a reader, for `progress`.

        Raises:
            MachineError: the source was stopped.
        """
        if self._stopped:
            raise MachineError(f"reading {self._path} was stopped")
        self._position = max(self._position, position)


class _StoppableFile(io.RawIOBase):
    def __init__(self, source: FileSource, file: io.FileIO) -> None:
        super().__init__()
        self._source = source
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._source.advance_to(self._file.tell())
        return self._file.readinto(buffer) or 0  # type: ignore[arg-type]  # typed as object, but always a buffer

    def close(self) -> None:
        self._file.close()
        super().close()


class DownloadSource:
    """A source that is still being downloaded."""

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
        """Return the numbers of received and of total bytes. Unpacking keeps up with the download."""
        return self._download.received, self._download.size


class Job(threading.Thread, Generic[T]):
    """A function that runs in its own thread while the main thread only waits.

    ^C raises an exception anywhere in the main thread. If the main thread held a lock then, the lock might never be
    released.
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
        """Wait for the function and return its result or raise its error; calls `tick` while waiting."""
        while self.is_alive():
            self.join(_TICK_S)
            tick()
        if self._error:
            raise self._error
        return self._results[0]


@dataclass(frozen=True, kw_only=True)
class Digests:
    """The computed digests of a published file; `sha512` is None if it was not requested."""

    sha256: str
    sha512: str | None


def digest(reader: IO[bytes], check: SignatureCheck | None, *, with_sha512: bool) -> Digests:
    """Compute the digests of a stream while feeding its content to the signature check."""
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
