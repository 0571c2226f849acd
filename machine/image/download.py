"""A file on its way from a server, readable while it arrives; what has arrived outlives every kind of end.

The download is a folder. Each `OFFSET.part` in it is one contiguous run of the file's bytes from that offset on, and
grows only at its end, so that its length alone says what is there, whenever a process was killed. `source.json` says
which version of the file the runs belong to.

Worker threads fill the gaps between the runs. There is one, on one connection, until measurement shows that more of
them bring more.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors, write_atomic
from machine.image.web import FetchError, Web, WebSettings, back_off_s, body_chunks, public_url

if TYPE_CHECKING:
    from requests import Response

log = logging.getLogger(__name__)

# The size of a request where several share a file: small enough to arrive nearly in order, for who reads along.
PIECE_BYTES = 8 * 1024**2
MAX_WORKERS = 4
_MEASURE_S = 1.5
# One more worker has to bring so much more.
_GAIN = 1.2
# So many seconds have to be left at the present rate for another worker to be worth it.
_WORTHWHILE_S = 3.0
# Less than this between two errors is no progress.
_PROGRESS_BYTES = 64 * 1024
_JOIN_S = 2.0
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class ChangedError(MachineError):
    """The runs belong to another version of the file, or the server cannot go on from their ends: begin again."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """What tells two versions of a file apart, as the server's headers have it."""

    etag: str = ""
    modified: str = ""
    size: int | None = None

    @property
    def condition(self) -> str:
        """For If-Range, which wants a strong validator; empty where the server gives none."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@dataclass(kw_only=True)
class _Run:
    """Bytes `start` to `end` (exclusive); while a worker is at it, it goes on to `limit`, None being the file's end."""

    start: int
    end: int
    descriptor: int
    busy: bool = False
    limit: int | None = None


class Pace:
    """How many workers there should be: one more as long as the last one brought enough (pure)."""

    def __init__(self, most: int = MAX_WORKERS) -> None:
        self.workers = 1
        self._most = most
        self._best = 0.0
        self._settled = False

    def retreat(self) -> bool:
        """One worker alone from now on; returns whether there were to be more."""
        had, self.workers, self._settled = self.workers, 1, True
        return had > 1

    def observe(self, rate: float, left_bytes: int) -> int:
        """Take in a measurement in bytes/s; returns the number of workers from now on."""
        if self._settled:
            return self.workers
        if self._best and rate < self._best * _GAIN:
            self.workers -= 1
            self._settled = True
        elif self.workers < self._most and left_bytes > rate * _WORTHWHILE_S:
            self._best = rate
            self.workers += 1
        return self.workers


class Download:
    """Use as a context: at its end the workers stop, and what has arrived stays in the folder."""

    def __init__(
        self,
        url: str,
        folder: Path,
        settings: WebSettings,
        authorize: Callable[[], Mapping[str, str]] | None = None,
        *,
        check_size: Callable[[int, int], None] = lambda size, missing: None,  # noqa: ARG005
        will_be_verified: bool = True,
        most_workers: int = MAX_WORKERS,
    ) -> None:
        """`authorize` gives the headers of a login, and is asked again when they are refused.
        `check_size` hears the whole size and what is missing of it before anything is written, and may object.
        What will not be verified goes on only from where the server vouches for it being the same file.
        """
        self.url = url
        self._folder = folder
        self._settings = settings
        self._authorize = authorize
        self._headers: Mapping[str, str] = {}
        self._size_is_checked = False
        self._check_size = check_size
        self._will_be_verified = will_be_verified
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._error: MachineError | None = None
        self._version = Version()
        self._size: int | None = None
        self._ranges = False
        self._runs: list[_Run] = []
        self._pace = Pace(most_workers)
        self._measured = (time.monotonic(), 0)
        self.resumed = False

    # For those who use it

    def __enter__(self) -> Self:
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._load()
        self.resumed = bool(self._runs)
        if self._authorize:
            self._headers = self._authorize()
        self._measured = (time.monotonic(), self.received)
        self._start_worker()
        return self

    def stop(self) -> None:
        """End the workers and whoever waits for bytes."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def __exit__(self, *_: object) -> None:
        self.stop()
        for thread in self._threads:
            thread.join(_JOIN_S)
        with self._changed:
            for run in self._runs:
                os.close(run.descriptor)
            self._runs.clear()
        if not any(path.stat().st_size for path in self._folder.glob("*.part")):
            self.discard()  # nothing is left of a server that sent nothing

    def discard(self) -> None:
        """Remove all that has arrived."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def name(self) -> str:
        """What a person may see of the address."""
        return public_url(self.url)

    @property
    def size(self) -> int | None:
        """The whole file's bytes, None as long as that is not known."""
        return self._size

    @property
    def received(self) -> int:
        """Bytes that are here, those of earlier attempts included."""
        return sum(run.end - run.start for run in self._runs)

    @property
    def complete(self) -> bool:
        return self._size is not None and self.received == self._size

    def reader(self) -> io.RawIOBase:
        """The file from its beginning on; its `read` waits for what has not arrived yet."""
        return _Reader(self)

    def read_at(self, position: int, count: int) -> bytes:
        """At most `count` bytes from `position` on, at least one; none at the end of the file.

        Raises:
            MachineError: they will not come.
        """
        with self._changed:
            while True:
                run = next((run for run in self._runs if run.start <= position < run.end), None)
                if run is not None:
                    count = min(count, run.end - position)
                    return os.pread(run.descriptor, count, position - run.start)
                if self._size is not None and position >= self._size:
                    return b""
                if self._error is not None:
                    raise self._error
                if self._stop.is_set():
                    raise MachineError(f"the download of {self.name} was stopped")
                self._changed.wait(1.0)

    # The folder

    @property
    def _source(self) -> Path:
        return self._folder / "source.json"

    def _load(self) -> None:
        try:
            self._version = Version(**json.loads(self._source.read_bytes()))
        except (OSError, ValueError, TypeError):
            self._wipe()
            return
        self._size = self._version.size
        self._ranges = bool(self._version.condition)
        for path in sorted(self._folder.glob("*.part")):
            if path.stem.isascii() and path.stem.isdigit():
                self._runs.append(self._open_run(int(path.stem)))
        if not self._will_be_verified and (self.complete or not self._version.condition):
            self._forget()
        for run, following in zip(self._runs, self._runs[1:], strict=False):
            if run.end > following.start:
                os.ftruncate(run.descriptor, following.start - run.start)
                run.end = following.start

    def _forget(self) -> None:
        for run in self._runs:
            os.close(run.descriptor)
        self._runs.clear()
        self._version, self._size = Version(), None
        self._wipe()

    def _wipe(self) -> None:
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _open_run(self, start: int) -> _Run:
        path = self._folder / f"{start:016}.part"
        with disk_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_PRIVATE)
        return _Run(start=start, end=start + os.fstat(descriptor).st_size, descriptor=descriptor)

    # The workers

    def _start_worker(self) -> None:
        thread = threading.Thread(target=self._work, name=f"download-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        try:
            self._fill_gaps(Web(self._settings))
        except MachineError as error:
            self._fail(error)
        except Exception as error:
            log.debug("a defect in a worker", exc_info=True)
            self._fail(MachineError(f"cannot fetch {self.name}: {error}"))

    def _fill_gaps(self, web: Web) -> None:
        failures = 0
        while (run := self._claim()) is not None:
            before = run.end
            try:
                self._fill(web, run)
                failures = 0
            except (FetchError, ChangedError) as error:
                if self._retreat():
                    continue  # a server may allow fewer connections than we tried
                failures = 1 if run.end - before > _PROGRESS_BYTES else failures + 1
                pause = back_off_s(failures)
                if isinstance(error, ChangedError) or pause is None or not self._may_help(error):
                    raise
                self._stop.wait(pause)
            finally:
                self._release(run)

    def _retreat(self) -> bool:
        """Go back to one worker after a failure of several; returns whether there were several."""
        with self._changed:
            return self._pace.retreat()

    def _may_help(self, error: FetchError) -> bool:
        """Whether another attempt may: after a pause, or with a new login."""
        if error.status == 401 and self._authorize:
            self._headers = self._authorize()
            return True
        return error.transient

    def _fail(self, error: MachineError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _claim(self) -> _Run | None:
        """The first gap that nobody fills, as a run to be continued; None where there is no work for this worker."""
        with self._changed:
            busy = sum(run.busy for run in self._runs)
            if self._stop.is_set() or self._error or busy >= self._pace.workers:
                return None
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
            shared = self._pace.workers > 1 and end is not None
            run.limit = min(end, start + PIECE_BYTES) if shared and end is not None else end
            return run

    def _first_gap(self) -> tuple[int, int | None] | None:
        """Where a gap begins and ends, the end None where it is not known."""
        position = 0
        for run in self._runs:
            if run.start > position:
                return position, run.start
            if run.busy and run.limit is None:
                return None
            position = max(position, (run.limit or run.end) if run.busy else run.end)
        if self._size is None:
            return (position, None)
        return (position, self._size) if position < self._size else None

    def _release(self, run: _Run) -> None:
        with self._changed:
            run.busy = False
            run.limit = None
            self._changed.notify_all()

    def _fill(self, web: Web, run: _Run) -> None:
        """Ask for what is missing of a run and append it."""
        first, last = run.end, "" if run.limit is None or run.limit == self._size else str(run.limit - 1)
        headers = dict(self._headers)
        if first or last:
            headers["Range"] = f"bytes={first}-{last}"
            if self._version.condition:
                headers["If-Range"] = self._version.condition
        with web.get(self.url, headers) as response:
            if not self._accept(response, run):
                return
            for chunk in body_chunks(response):
                if not self._append(run, chunk):
                    return
        with self._changed:
            if self._size is None:
                self._size = run.end
            elif run.end < (run.limit or self._size) and not self._stop.is_set():
                raise FetchError(
                    f"cannot fetch {self.name}: the server ended after {run.end} of {self._size} bytes", transient=True
                )
            self._changed.notify_all()

    def _accept(self, response: Response, run: _Run) -> bool:
        """Check that an answer continues the run; returns whether it has a body to append.

        Raises:
            ChangedError: it does not.
            FetchError: it is none that we understand.
        """
        with self._changed:
            status = response.status_code
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if status == 416:
                if match and match[2] == str(run.end):
                    self._size = run.end  # nothing is missing
                    self._changed.notify_all()
                    return False
                raise ChangedError(f"{self.name} has changed")
            if status == 206:
                if not match or match[1] != str(run.end):
                    raise FetchError(f"{self.name} sent another range than it was asked for", transient=False)
                size = int(match[2]) if match[2] != "*" else None
                answered = _version(response, size)
                self._ranges = bool(answered.condition)
            elif status == 200:
                length = response.headers.get("Content-Length", "")
                answered = _version(response, int(length) if length.isascii() and length.isdigit() else None)
                if run.end:
                    raise ChangedError(f"{self.name} has changed, or its server cannot go on where it ended")
                self._ranges = response.headers.get("Accept-Ranges") == "bytes" and bool(answered.condition)
            else:
                raise FetchError(f"{self.name} answered {status} {response.reason}", transient=False, status=status)
            if answered.size is not None and not self._size_is_checked:
                self._check_size(answered.size, answered.size - self.received)
                self._size_is_checked = True
            if answered != self._version:
                if self.received:
                    raise ChangedError(f"{self.name} has changed")
                write_atomic(self._source, json.dumps(asdict(answered)))
                self._version = answered
            self._size = answered.size
            self._changed.notify_all()
            return True

    def _append(self, run: _Run, chunk: bytes) -> bool:
        """Returns whether the run goes on."""
        with self._changed:
            if self._stop.is_set() or self._error:
                return False
            if run.limit is not None:
                chunk = chunk[: run.limit - run.end]
            with disk_errors(self._folder / "part"):
                _write_all(run.descriptor, chunk)
            run.end += len(chunk)
            self._changed.notify_all()
            self._measure()
            return run.limit is None or run.end < run.limit

    def _measure(self) -> None:
        """From time to time, add a worker or let one go."""
        now, (since, before) = time.monotonic(), self._measured
        if now - since < _MEASURE_S or not self._ranges or self._size is None:
            return
        received = self.received
        self._measured = (now, received)
        had = self._pace.workers
        wanted = self._pace.observe((received - before) / (now - since), self._size - received)
        if wanted > had:
            for run in self._runs:
                if run.busy and (run.limit or self._size) - run.end > 2 * PIECE_BYTES:
                    run.limit = run.end + PIECE_BYTES  # the rest of a long run is everybody's
            self._start_worker()


class _Reader(io.RawIOBase):
    def __init__(self, download: Download) -> None:
        super().__init__()
        self._download = download
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # io wants object, and gives what has a buffer
        data = self._download.read_at(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def _version(response: Response, size: int | None) -> Version:
    headers = response.headers
    return Version(etag=headers.get("ETag", ""), modified=headers.get("Last-Modified", ""), size=size)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
