"""A file on its way from a server, readable while it arrives.

Worker threads fill the gaps between the runs that are here. There is one, on one connection, until measurement shows
that more of them bring more.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from machine.errors import MachineError
from machine.image.pace import MAX_WORKERS, Pace
from machine.image.runs import Run, Runs, Version
from machine.image.web import FetchError, Web, WebSettings, back_off_s, body_chunks, public_url

if TYPE_CHECKING:
    from requests import Response

log = logging.getLogger(__name__)

# The size of a request where several share a file: small enough to arrive nearly in order, for who reads along.
PIECE_BYTES = 8 * 1024**2
_MEASURE_S = 1.5
# Less than this between two errors is no progress.
_PROGRESS_BYTES = 64 * 1024
_JOIN_S = 2.0
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class ChangedError(MachineError):
    """The runs belong to another version of the file, or the server cannot go on from their ends: begin again."""


class Download:
    """Fetches one file. Use as a context: at its end the workers stop, and what has arrived stays in the folder."""

    def __init__(
        self,
        url: str,
        folder: Path,
        settings: WebSettings,
        authorize: Callable[[], Mapping[str, str]] | None = None,
        *,
        check_size: Callable[[int, int], None] = lambda size, missing: None,  # noqa: ARG005
        will_be_verified: bool = True,
        max_workers: int = MAX_WORKERS,
    ) -> None:
        """Prepare a download; nothing is asked for before the block.

        `authorize` gives the headers of a login, and is called again when they are refused. `check_size` gets the whole
        size and what is missing of it before anything is written, and may raise. What `will_be_verified` goes on from
        what has arrived earlier; anything else only where the server confirms that the file is the same.
        """
        self.url = url
        self.resumed = False
        self._settings = settings
        self._authorize = authorize
        self._headers: Mapping[str, str] = {}
        self._check_size: Callable[[int, int], None] | None = check_size
        self._will_be_verified = will_be_verified
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._error: MachineError | None = None
        self._runs = Runs(folder)
        self._ranges = False
        self._pace = Pace(max_workers)
        self._measured = (time.monotonic(), 0)

    # For those who use it

    def __enter__(self) -> Self:
        self._runs.open()
        condition = self._runs.version.condition
        if not self._will_be_verified and (self._runs.complete or condition is None):
            self._runs.forget()
        self._ranges = self._runs.version.condition is not None
        self.resumed = self.received > 0
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
            self._runs.close()

    def discard(self) -> None:
        """Remove all that has arrived."""
        self._runs.discard()

    @property
    def name(self) -> str:
        """The address without a login."""
        return public_url(self.url)

    @property
    def size(self) -> int | None:
        """The whole file's bytes, None as long as that is not known."""
        return self._runs.size

    @property
    def received(self) -> int:
        """Bytes that are here, those of earlier attempts included."""
        return self._runs.received

    def reader(self) -> io.RawIOBase:
        """The file from its beginning on; its `read` waits for what has not arrived yet."""
        return _Reader(self)

    def read_at(self, position: int, count: int) -> bytes:
        """Wait for at most `count` bytes from `position` on, at least one; none at the end of the file.

        Raises:
            MachineError: they will not come.
        """
        with self._changed:
            while True:
                if data := self._runs.read_at(position, count):
                    return data
                if self.size is not None and position >= self.size:
                    return b""
                if self._error is not None:
                    raise self._error
                if self._stop.is_set():
                    raise MachineError(f"the download of {self.name} was stopped")
                self._changed.wait(1.0)

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
        """Decide whether another attempt may succeed, after a pause or with a new login, which is fetched here."""
        if error.status == 401 and self._authorize:
            self._headers = self._authorize()
            return True
        return error.transient

    def _fail(self, error: MachineError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _claim(self) -> Run | None:
        """Take a gap to fill; None where there is no work for this worker."""
        with self._changed:
            if self._stop.is_set() or self._error or len(self._runs.busy) >= self._pace.workers:
                return None
            return self._runs.claim(PIECE_BYTES if self._pace.workers > 1 else None)

    def _release(self, run: Run) -> None:
        with self._changed:
            self._runs.release(run)
            self._changed.notify_all()

    def _fill(self, web: Web, run: Run) -> None:
        """Ask for what is missing of a run and append it."""
        with web.get(self.url, self._request_headers(run)) as response:
            if not self._accept(response, run):
                return
            for chunk in body_chunks(response):
                if not self._append(run, chunk):
                    return
        with self._changed:
            if self.size is None:
                self._runs.size = run.end
            elif run.end < (run.limit or self.size) and not self._stop.is_set():
                raise FetchError(
                    f"cannot fetch {self.name}: the server sent only {run.end} of {self.size} bytes", transient=True
                )
            self._changed.notify_all()

    def _request_headers(self, run: Run) -> dict[str, str]:
        to_the_end = run.limit is None or run.limit == self.size
        headers = dict(self._headers)
        if run.end or not to_the_end:
            headers["Range"] = f"bytes={run.end}-{'' if to_the_end or run.limit is None else run.limit - 1}"
            if condition := self._runs.version.condition:
                headers["If-Range"] = condition
        return headers

    def _accept(self, response: Response, run: Run) -> bool:
        """Check that an answer continues the run; returns whether it has a body to append.

        Raises:
            ChangedError: it does not.
            FetchError: it is neither the file nor the part that was asked for.
        """
        with self._changed:
            if response.status_code == 416:
                match = _content_range(response)
                if not match or match[2] != str(run.end):
                    raise ChangedError(f"{self.name} has changed")
                self._runs.size = run.end  # nothing is missing
                self._changed.notify_all()
                return False
            version = _answered_version(response, run.end, self.name)
            self._ranges = version.condition is not None and _has_ranges(response)
            self._take_version(version)
            return True

    def _take_version(self, version: Version) -> None:
        if version.size is not None and self._check_size:
            self._check_size(version.size, version.size - self.received)
            self._check_size = None
        if version != self._runs.version:
            if self.received:
                raise ChangedError(f"{self.name} has changed")
            self._runs.become(version)
        self._runs.size = version.size
        self._changed.notify_all()

    def _append(self, run: Run, chunk: bytes) -> bool:
        """Add what has arrived to a run; returns whether the run goes on."""
        with self._changed:
            if self._stop.is_set() or self._error:
                return False
            self._runs.append(run, chunk)
            self._changed.notify_all()
            self._measure()
            return run.limit is None or run.end < run.limit

    def _measure(self) -> None:
        """Measure the rate from time to time, and add a worker or let one go."""
        now, (since, before) = time.monotonic(), self._measured
        if now - since < _MEASURE_S or not self._ranges or self.size is None:
            return
        received = self.received
        self._measured = (now, received)
        had = self._pace.workers
        if self._pace.observe((received - before) / (now - since), self.size - received) > had:
            for run in self._runs.busy:
                if (run.limit or self.size) - run.end > 2 * PIECE_BYTES:
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


def _answered_version(response: Response, position: int, name: str) -> Version:
    """The version of the file that an answer sends from `position` on.

    Raises:
        ChangedError: it does not go on from there.
        FetchError: it is neither the file nor the part that was asked for.
    """
    match response.status_code:
        case 206:
            found = _content_range(response)
            if not found or found[1] != str(position):
                raise FetchError(f"{name} sent a different range than requested", transient=False)
            size = found[2]
        case 200:
            if position:
                raise ChangedError(f"{name} has changed, or its server cannot resume downloads")
            size = response.headers.get("Content-Length", "")
        case status:
            raise FetchError(f"{name} answered {status} {response.reason}", transient=False, status=status)
    headers = response.headers
    return Version(
        etag=headers.get("ETag") or None,
        modified=headers.get("Last-Modified") or None,
        size=int(size) if size.isascii() and size.isdigit() else None,
    )


def _content_range(response: Response) -> re.Match[str] | None:
    return _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))


def _has_ranges(response: Response) -> bool:
    """Whether the server can send a part of the file."""
    return response.status_code == 206 or response.headers.get("Accept-Ranges") == "bytes"
