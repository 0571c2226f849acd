"""Download a file. The download can be resumed, and the file can be read before the download is complete.

Worker threads, each with its own connection, fetch the parts of the file that are missing. The download starts with one
worker, and adds workers only as long as each makes the download measurably faster.
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

from machine.errors import MachineError, reason_of
from machine.image.pace import MAX_WORKERS, Pace
from machine.image.runs import Run, Runs, Version
from machine.image.web import FetchError, Web, WebSettings, back_off_s, body_chunks, public_url

if TYPE_CHECKING:
    from requests import Response

log = logging.getLogger(__name__)

# The size of a request when several workers share a file: small, so that bytes arrive nearly in order for readers.
PIECE_BYTES = 8 * 1024**2
_MEASURE_S = 1.5
# Receiving fewer bytes than this between two errors does not reset the count of failures.
_PROGRESS_BYTES = 64 * 1024
_JOIN_S = 2.0
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class ChangedError(MachineError):
    """A download must start over, because the file has changed on the server or the server cannot resume downloads."""


class Download:
    """The download of one file.

    This is a context manager. When the block is left, the workers are stopped, and the received data stays on disk.
    """

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
        """Prepare a download. The first request is sent when the block is entered.

        `authorize` returns the headers of a login, and is called again when the server rejects the headers.
        `check_size` is called before anything is written, with the size of the file and the number of missing bytes,
        and may raise an error. A download that `will_be_verified` is always resumed. Any other download is resumed only
        if the server confirms that the file is unchanged.
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

    # Interface

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
        """Stop the workers, and make the readers that are waiting for data fail."""
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
        """Delete the data that has been received, also by earlier attempts."""
        self._runs.discard()

    @property
    def name(self) -> str:
        """The URL of the file without credentials, for messages."""
        return public_url(self.url)

    @property
    def size(self) -> int | None:
        """The size of the whole file in bytes, or None as long as it is unknown."""
        return self._runs.size

    @property
    def received(self) -> int:
        """The number of bytes that this and earlier attempts have received."""
        return self._runs.received

    def reader(self) -> io.RawIOBase:
        """Return a reader of the file, from its start. The reader's `read` blocks until the data has arrived."""
        return _Reader(self)

    def read_at(self, position: int, count: int) -> bytes:
        """Wait for data at `position`, and return 1 to `count` bytes of it. At the end of the file, return b"".

        Raises:
            MachineError: the download failed or was stopped.
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

    # Workers

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
            log.debug("unexpected error in a download worker", exc_info=True)
            self._fail(MachineError(f"cannot fetch {self.name}: {reason_of(error)}"))

    def _fill_gaps(self, web: Web) -> None:
        failures = 0
        while (run := self._claim()) is not None:
            before = run.end
            try:
                self._fill(web, run)
                failures = 0
            except (FetchError, ChangedError) as error:
                if self._retreat():
                    continue  # the server may not allow several connections
                failures = 1 if run.end - before > _PROGRESS_BYTES else failures + 1
                pause = back_off_s(failures)
                if isinstance(error, ChangedError) or pause is None or not self._should_retry(error):
                    raise
                self._stop.wait(pause)
            finally:
                self._release(run)

    def _retreat(self) -> bool:
        """Go back to one worker, and return whether there were several workers."""
        with self._changed:
            return self._pace.retreat()

    def _should_retry(self, error: FetchError) -> bool:
        """Return whether another attempt may succeed. If the server has rejected the login, renew the login first."""
        if error.status == 401 and self._authorize:
            self._headers = self._authorize()
            return True
        return error.transient

    def _fail(self, error: MachineError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _claim(self) -> Run | None:
        """Claim a gap for this worker to fetch. Return None if there is no work for this worker."""
        with self._changed:
            if self._stop.is_set() or self._error or len(self._runs.busy) >= self._pace.workers:
                return None
            return self._runs.claim(PIECE_BYTES if self._pace.workers > 1 else None)

    def _release(self, run: Run) -> None:
        with self._changed:
            self._runs.release(run)
            self._changed.notify_all()

    def _fill(self, web: Web, run: Run) -> None:
        """Request the bytes that a run still lacks, and append them to the run."""
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
        """Check that the response continues the run. Return whether the response has a body to append.

        Raises:
            ChangedError: the file has changed on the server, or the server cannot resume downloads.
            FetchError: the server sent neither the file nor the requested range.
        """
        with self._changed:
            if response.status_code == 416:
                match = _content_range(response)
                if not match or match[2] != str(run.end):
                    raise ChangedError(f"{self.name} has changed")
                self._runs.size = run.end  # nothing is missing
                self._changed.notify_all()
                return False
            version = _version_of(response, run.end, self.name)
            self._ranges = version.condition is not None and _supports_ranges(response)
            self._check_version(version)
            return True

    def _check_version(self, version: Version) -> None:
        if version.size is not None and self._check_size:
            self._check_size(version.size, version.size - self.received)
            self._check_size = None
        if version != self._runs.version:
            if self.received:
                raise ChangedError(f"{self.name} has changed")
            self._runs.record_version(version)
        self._runs.size = version.size
        self._changed.notify_all()

    def _append(self, run: Run, chunk: bytes) -> bool:
        """Append received bytes to a run, and return whether the run needs more bytes."""
        with self._changed:
            if self._stop.is_set() or self._error:
                return False
            self._runs.append(run, chunk)
            self._changed.notify_all()
            self._measure()
            return run.limit is None or run.end < run.limit

    def _measure(self) -> None:
        """Measure the rate every `_MEASURE_S` seconds, and add or drop a worker according to the rate."""
        now, (since, before) = time.monotonic(), self._measured
        if now - since < _MEASURE_S or not self._ranges or self.size is None:
            return
        received = self.received
        self._measured = (now, received)
        had = self._pace.workers
        if self._pace.observe((received - before) / (now - since), self.size - received) > had:
            for run in self._runs.busy:
                if (run.limit or self.size) - run.end > 2 * PIECE_BYTES:
                    run.limit = run.end + PIECE_BYTES  # leaves the rest of a long run to other workers
            self._start_worker()


class _Reader(io.RawIOBase):
    def __init__(self, download: Download) -> None:
        super().__init__()
        self._download = download
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # typed as object, but always a buffer
        data = self._download.read_at(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def _version_of(response: Response, position: int, name: str) -> Version:
    """Return the version of the file that the response describes in its headers.

    The body of the response must begin at `position` of the file.

    Raises:
        ChangedError: the server sent the whole file instead of the rest from `position` on.
        FetchError: the server sent neither the file nor the requested range.
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


def _supports_ranges(response: Response) -> bool:
    """Return whether the server can send a part of the file."""
    return response.status_code == 206 or response.headers.get("Accept-Ranges") == "bytes"
