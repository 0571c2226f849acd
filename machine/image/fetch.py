"""Bytes from a URL: `file:` directly, `http(s):` by requests."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors
from machine.report import Reporter

if TYPE_CHECKING:
    from requests import Response

CHUNK_BYTES = 1024**2

# Seconds to connect, and seconds without a byte.
_TIMEOUTS = (10, 60)


class Digest(Protocol):
    """The part of hashlib's objects that we use."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(kw_only=True)
class _Body:
    """What a server sends: `offset` is the position of its first byte in the whole."""

    chunks: Iterator[bytes]
    offset: int
    total: int | None


def local_path(url: str) -> Path | None:
    """The path of a `file:` URL, None for others."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def fetch_bytes(url: str, *, limit: int) -> bytes:
    """A small document, whole.

    Raises:
        MachineError: it cannot be had, or is larger than `limit` bytes.
    """
    path = local_path(url)
    if path is not None:
        try:
            return path.read_bytes()
        except OSError as error:
            raise MachineError(f"cannot read {path}: {error.strerror}") from error
    received = bytearray()
    with _open(url, offset=0) as body:
        for chunk in body.chunks:
            received += chunk
            if len(received) > limit:
                raise MachineError(f"{url} is larger than {limit} bytes, which cannot be right")
    return bytes(received)


def fetch_file(url: str, part: Path, report: Reporter) -> str:
    """Fetch `url` into `part`, going on where an earlier attempt ended, and return its sha256.

    Raises:
        MachineError: it cannot be had; what has arrived stays in `part`.
    """
    digest = hashlib.sha256()
    with disk_errors(part):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_PRIVATE)
    with os.fdopen(descriptor, "r+b") as stream:
        have = _hash_what_is_there(stream, digest)
        with _removed_if_empty(part), _open(url, offset=have) as body:
            if body.offset != have:
                digest = hashlib.sha256()
                stream.seek(0)
                stream.truncate()
            _copy(body, stream, digest, part, report)
    return digest.hexdigest()


@contextlib.contextmanager
def _removed_if_empty(part: Path) -> Iterator[None]:
    """Leave nothing behind of a server that sent nothing."""
    try:
        yield
    except BaseException:
        if part.stat().st_size == 0:
            part.unlink()
        raise


def _hash_what_is_there(stream: IO[bytes], digest: Digest) -> int:
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return stream.tell()


def _copy(body: _Body, stream: IO[bytes], digest: Digest, part: Path, report: Reporter) -> None:
    done = body.offset
    with disk_errors(part):
        for chunk in body.chunks:
            stream.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            report.progress(done, body.total)
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _open(url: str, *, offset: int) -> Iterator[_Body]:
    """Request `url` from `offset` on; the server may send the whole instead.

    Raises:
        MachineError: for every error of the network or the server, also while chunks arrive.
    """
    import requests  # a tenth of a second that only downloads need

    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={offset}-"} if offset else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # Nothing is missing, or the file has changed: the caller's checksum tells.
                yield _Body(chunks=iter(()), offset=offset, total=offset)
                return
            response.raise_for_status()
            start = offset if response.status_code == requests.codes.partial_content else 0
            yield _Body(chunks=response.iter_content(CHUNK_BYTES), offset=start, total=_total(response, start))
    except requests.HTTPError as error:
        raise MachineError(f"{url} answered {error.response.status_code} {error.response.reason}") from error
    except requests.RequestException as error:
        raise MachineError(f"cannot fetch {url}: {_cause(error)}") from error


def _total(response: Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _cause(error: BaseException) -> str:
    """The innermost cause in a few words: urllib3 wraps what the socket said several times."""
    cause: BaseException = error
    while (inner := _inner(cause)) is not None:
        cause = inner
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _inner(error: BaseException) -> BaseException | None:
    reason = getattr(error, "reason", None)
    candidates = [reason, error.__cause__, *error.args, error.__context__]
    return next((item for item in candidates if isinstance(item, BaseException) and item is not error), None)
