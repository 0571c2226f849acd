"""Where the bytes of an image come from while it is unpacked, and the threads that read them."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar, cast

from machine.errors import MachineError
from machine.image.download import Download
from machine.image.verify import SignatureCheck
from machine.image.web import CHUNK_BYTES

_TICK_S = 0.1

T = TypeVar("T")


class Source(Protocol):
    """The bytes of an artifact: any number of readers of the whole, and an end to all of them."""

    def reader(self) -> IO[bytes]: ...
    def stop(self) -> None: ...
    def progress(self) -> tuple[int, int | None]: ...


class FileSource:
    """A file of this host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._stopped = False
        self._position = 0

    def reader(self) -> IO[bytes]:
        return cast("IO[bytes]", io.BufferedReader(_StoppableFile(self, self._path.open("rb", buffering=0))))

    def stop(self) -> None:
        self._stopped = True

    def progress(self) -> tuple[int, int | None]:
        return self._position, self._size

    def passed(self, position: int) -> None:
        """Note that a reader has come so far.

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
        self._source.passed(self._file.tell())
        return self._file.readinto(buffer) or 0  # type: ignore[arg-type]  # io wants object, and gives a buffer

    def close(self) -> None:
        self._file.close()
        super().close()


class DownloadSource:
    """A file on its way from a server."""

    def __init__(self, download: Download) -> None:
        self._download = download

    def reader(self) -> IO[bytes]:
        return cast("IO[bytes]", self._download.reader())

    def stop(self) -> None:
        self._download.stop()

    def progress(self) -> tuple[int, int | None]:
        """Count what has arrived: unpacking follows it closely."""
        return self._download.received, self._download.size


class Job(threading.Thread, Generic[T]):
    """Work in a thread of its own, so that the main thread does nothing but wait.

    ^C is an exception at any place in the main thread: where it holds a lock, nobody would ever get it again.
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
        """Wait for the work and return or raise what it does; `tick` is called while it goes on."""
        while self.is_alive():
            self.join(_TICK_S)
            tick()
        if self._error:
            raise self._error
        return self._results[0]


@dataclass(frozen=True, kw_only=True)
class Digests:
    """The digests of a file as it was published; `sha512` is None where it was not asked for."""

    sha256: str
    sha512: str | None


def digest(reader: IO[bytes], check: SignatureCheck | None, *, with_sha512: bool) -> Digests:
    """Read a file to its end for its digests; the signature's check reads along."""
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
