"""Store the received parts of a download in a folder that stays valid after a crash.

Each `OFFSET.part` contains one run, which is a sequence of bytes of the file that begins at that offset. A part only
ever grows at its end, so that its length says what was received, even if the process was killed. `source.json` names
the version of the file.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from machine.files import FILE_PRIVATE, disk_errors, make_directory, write_atomic


@dataclass(frozen=True, kw_only=True)
class Version:
    """The response headers that identify a version of a file."""

    etag: str | None = None
    modified: str | None = None
    size: int | None = None

    @property
    def condition(self) -> str | None:
        """The value for the header If-Range. None if the server has sent no header that changes with the file."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@dataclass(kw_only=True)
class Run:
    """The bytes of the file from `start` up to, but without, `end`, which have been received.

    While the run is `busy`, a worker appends bytes to it up to `limit`, or to the end of the file if `limit` is None.
    """

    start: int
    end: int
    descriptor: int
    busy: bool = False
    limit: int | None = None


class Runs:
    """The runs of one file, and the file's version and size. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.version = Version()
        self.size: int | None = None
        """The size of the whole file in bytes, None until it is known."""
        self._folder = folder
        self._runs: list[Run] = []

    @property
    def received(self) -> int:
        """The number of bytes that this and earlier attempts have received."""
        return sum(run.end - run.start for run in self._runs)

    @property
    def complete(self) -> bool:
        return self.size is not None and self.received == self.size

    @property
    def busy(self) -> list[Run]:
        """The runs to which workers are appending bytes."""
        return [run for run in self._runs if run.busy]

    # The folder

    def open(self) -> None:
        """Load the runs of earlier attempts from the folder. If the folder does not exist, create it."""
        with disk_errors(self._folder):
            make_directory(self._folder)
        try:
            fields = json.loads(self._source.read_bytes())
            self.version = Version(**{key: None if value == "" else value for key, value in fields.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            self._wipe()
            return
        self.size = self.version.size
        for path in sorted(self._folder.glob("*.part")):
            if path.stem.isascii() and path.stem.isdigit():
                self._runs.append(self._open_run(int(path.stem)))
        for run, following in zip(self._runs, self._runs[1:], strict=False):
            if run.end > following.start:
                os.ftruncate(run.descriptor, following.start - run.start)
                run.end = following.start

    def close(self) -> None:
        """Close the files, and remove the folder if nothing was received."""
        self._close_runs()
        if not any(path.stat().st_size for path in self._folder.glob("*.part")):
            self.discard()

    def forget(self) -> None:
        """Delete all runs, so that the download starts over."""
        self._close_runs()
        self.version, self.size = Version(), None
        self._wipe()

    def discard(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def record_version(self, version: Version) -> None:
        """Store the version of the file. Call this before the file's first bytes are written."""
        write_atomic(self._source, json.dumps(asdict(version)))
        self.version = version

    @property
    def _source(self) -> Path:
        return self._folder / "source.json"

    def _close_runs(self) -> None:
        for run in self._runs:
            os.close(run.descriptor)
        self._runs.clear()

    def _wipe(self) -> None:
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _open_run(self, start: int) -> Run:
        path = self._folder / f"{start:016}.part"
        with disk_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_PRIVATE)
        return Run(start=start, end=start + os.fstat(descriptor).st_size, descriptor=descriptor)

    # The bytes

    def read_at(self, position: int, count: int) -> bytes:
        """Read at most `count` bytes from `position` on. If the byte at `position` is missing, return b""."""
        run = next((run for run in self._runs if run.start <= position < run.end), None)
        if run is None:
            return b""
        return os.pread(run.descriptor, min(count, run.end - position), position - run.start)

    def append(self, run: Run, chunk: bytes) -> None:
        """Append received bytes to a run, up to its limit."""
        view = memoryview(chunk)
        if run.limit is not None:
            view = view[: run.limit - run.end]
        with disk_errors(self._folder / "part"):
            while view:
                written = os.write(run.descriptor, view)
                view = view[written:]
                run.end += written

    def claim(self, piece: int | None) -> Run | None:
        """Claim the first gap that no worker has claimed, and return the run to which the worker is to append.

        Return None if there is no such gap. At most `piece` bytes are claimed, or the whole gap if `piece` is None.
        """
        gap = self._first_gap()
        if gap is None:
            return None
        start, end = gap
        run = next((run for run in self._runs if run.end == start and not run.busy), None)
        if run is None:
            run = self._open_run(start)
            self._runs.append(run)
            self._runs.sort(key=lambda run: run.start)
        run.busy = True
        run.limit = min(end, start + piece) if piece is not None and end is not None else end
        return run

    def release(self, run: Run) -> None:
        """End a worker's claim of a run, so that another worker can claim what the run still lacks."""
        run.busy = False
        run.limit = None

    def _first_gap(self) -> tuple[int, int | None] | None:
        """Return where the first unclaimed gap starts and ends. The end is None if the file's size is unknown."""
        position = 0
        for run in self._runs:
            if run.start > position:
                return position, run.start
            if run.busy and run.limit is None:
                return None
            position = max(position, (run.limit or run.end) if run.busy else run.end)
        if self.size is None:
            return (position, None)
        return (position, self.size) if position < self.size else None
