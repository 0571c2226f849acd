"""Unpack images. Compression and disk format are detected by content, never by file name."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import queue
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from machine.errors import MachineError, Page, reason_of
from machine.files import FILE_PRIVATE, disk_errors

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 256 * 1024
_OUTPUT_BYTES = 256 * 1024
_SECTOR = 512
_HEAD_BYTES = 2 * _SECTOR
_QCOW2_V3_BYTES = 104
_HOLE_BYTES = 64 * 1024
_HOLE = bytes(_HOLE_BYTES)
_QCOW2_HEADER = struct.Struct(">4sIQ")  # magic, version, offset of the backing file's name
_QCOW2_FEATURES_AT = 72
_QCOW2_EXTERNAL_DATA = 1 << 2  # docs/interop/qcow2.txt, incompatible features
_QUEUED = 8

# An image may unpack to _BOMB_BYTES plus _BOMB_RATIO times its packed size, holes not counted.
_BOMB_RATIO = 100
_BOMB_BYTES = 1024**3


class DiskFormat(StrEnum):
    QCOW2 = "qcow2"
    RAW = "raw"


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """The format of an unpacked image, and the image's sha256 in lower-case hex."""

    sha256: str
    format: DiskFormat


class _Decoder(Protocol):
    """The interface that the decoders of bz2, lzma and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _GzipDecoder:
    """An adapter that gives zlib's decoder of gzip the same interface as the other decoders."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


_DECODERS: dict[bytes, Callable[[], _Decoder]] = {
    b"\xfd7zXZ\x00": lzma.LZMADecompressor,
    b"\x1f\x8b": _GzipDecoder,
    b"BZh": bz2.BZ2Decompressor,
    b"\x28\xb5\x2f\xfd": zstd.ZstdDecompressor,
}
_DAMAGED = (lzma.LZMAError, zlib.error, zstd.ZstdError, ValueError, OSError)


def unpack(source: IO[bytes], target: Path, name: str) -> Unpacked:
    """Decompress `source` into the sparse file `target`. In error messages, `name` stands for the source.

    Raises:
        MachineError: `source` is truncated or damaged, or is not a disk image, or depends on other files.
    """
    head = _read_at_least(iter(lambda: source.read(CHUNK_BYTES), b""), _HEAD_BYTES)
    magic = next((magic for magic in _DECODERS if head.startswith(magic)), None)
    packed = _Counted(source, head)
    content = _decompress(packed, magic, name) if magic else iter(packed.read, b"")
    # The first chunk may be shorter than the header.
    first = _read_at_least(content, _HEAD_BYTES)
    disk_format = identify(first, name)
    with _SparseWriter(target) as writer:
        chunk: bytes | None = first
        while chunk:
            writer.write(chunk)
            if magic and writer.written > _BOMB_BYTES + _BOMB_RATIO * packed.count:
                raise MachineError(
                    f"{name} cannot be a disk image, because its {packed.count} bytes unpack to more than"
                    f" {writer.written // 1024**2} MiB"
                )
            chunk = next(content, None)
    return Unpacked(sha256=writer.sha256, format=disk_format)


def is_packed(path: Path) -> bool:
    """Return whether a file is compressed."""
    with path.open("rb") as stream:
        return stream.read(max(map(len, _DECODERS))).startswith(tuple(_DECODERS))


def examine(content: IO[bytes], name: str) -> Unpacked:
    """Determine the format and the sha256 of an image that is not compressed. `name` stands for it in error messages.

    Raises:
        MachineError: `content` is not a disk image, or is one that depends on other files.
    """
    head = _read_at_least(iter(lambda: content.read(CHUNK_BYTES), b""), _HEAD_BYTES)
    disk_format = identify(head, name)
    sha256 = hashlib.sha256(head)
    while chunk := content.read(CHUNK_BYTES):
        sha256.update(chunk)
    return Unpacked(sha256=sha256.hexdigest(), format=disk_format)


def _read_at_least(chunks: Iterator[bytes], count: int) -> bytes:
    """Join chunks until there are at least `count` bytes. If there are fewer bytes in all chunks, return these."""
    data = b""
    while len(data) < count and (chunk := next(chunks, b"")):
        data += chunk
    return data


class _Counted:
    """A reader of a file whose beginning, `head`, has been read already. It counts all bytes, also those of `head`."""

    def __init__(self, source: IO[bytes], head: bytes) -> None:
        self._source = source
        self._head = head
        self.count = 0

    def read(self) -> bytes:
        chunk, self._head = self._head or self._source.read(CHUNK_BYTES), b""
        self.count += len(chunk)
        return chunk


def _decompress(packed: _Counted, magic: bytes, name: str) -> Iterator[bytes]:
    """Yield the decompressed content of a file, which may consist of several compressed streams followed by zeros."""
    new_decoder = _DECODERS[magic]
    decoder = new_decoder()
    data = packed.read()
    while data or not decoder.needs_input:
        try:
            content = decoder.decompress(data, _OUTPUT_BYTES)
        except _DAMAGED as error:
            raise MachineError(f"{name} is damaged: {reason_of(error)}", page=Page.CHECKSUM) from error
        if content:
            yield content
        if not decoder.eof:
            data = packed.read() if decoder.needs_input else b""
            continue
        data = decoder.unused_data.lstrip(b"\0")
        while len(data) < len(magic) and (more := packed.read()):
            data = (data + more).lstrip(b"\0")
        if not data:
            return
        if not data.startswith(magic):
            raise MachineError(
                f"{name} has at least {len(data)} bytes of other data after its compressed data", page=Page.CHECKSUM
            )
        decoder = new_decoder()
    raise MachineError(f"{name} is cut short: its compressed data is incomplete", page=Page.CHECKSUM)


class _SparseWriter:
    """Hashes an image and writes it to a file, in a thread beside that of decompression.

    This is a context manager.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=_QUEUED)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="unpack", daemon=True)
        self.written = 0

    def __enter__(self) -> Self:
        with disk_errors(self._target):
            self._descriptor = os.open(self._target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_PRIVATE)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._error = self._error or value
        self._chunks.put(None)
        self._thread.join()
        os.close(self._descriptor)
        if kind is None and self._error is not None:
            raise self._error

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        if self._error is not None:
            raise self._error
        self._chunks.put(chunk)

    def _work(self) -> None:
        size = 0
        while (chunk := self._chunks.get()) is not None:
            if self._error is not None:
                continue  # empty the queue, so that `write` does not block
            try:
                self._digest.update(chunk)
                with disk_errors(self._target):
                    self._write_sparse(chunk, size)
                size += len(chunk)
            except Exception as error:  # noqa: BLE001  (raised by `write` or `__exit__`)
                self._error = error
        if self._error is None:
            try:
                with disk_errors(self._target):
                    os.ftruncate(self._descriptor, size)
                    os.fsync(self._descriptor)
            except Exception as error:  # noqa: BLE001
                self._error = error

    def _write_sparse(self, chunk: bytes, at: int) -> None:
        view = memoryview(chunk)
        begin = 0  # where the bytes begin that are not written yet
        for start in range(0, len(chunk), _HOLE_BYTES):
            piece = view[start : start + _HOLE_BYTES]
            if piece == _HOLE[: len(piece)]:
                self._write_at(view[begin:start], at + begin)
                begin = start + len(piece)
        self._write_at(view[begin:], at + begin)

    def _write_at(self, data: memoryview, at: int) -> None:
        self.written += len(data)
        while data:
            count = os.pwrite(self._descriptor, data, at)
            data, at = data[count:], at + count


def identify(head: bytes, name: str) -> DiskFormat:
    """Find out the format of the disk image that begins with the bytes `head`.

    Raises:
        MachineError: the bytes are not those of a disk image, or the disk image depends on other files.
    """
    if not head:
        raise MachineError(f"{name} is empty")
    if head.startswith(b"QFI\xfb"):
        if len(head) < _QCOW2_V3_BYTES:
            raise MachineError(f"{name} is damaged or cut short", page=Page.CHECKSUM)
        _, version, backing = _QCOW2_HEADER.unpack_from(head)
        features = head[_QCOW2_FEATURES_AT : _QCOW2_FEATURES_AT + 8] if version >= 3 else b""
        if backing:
            raise MachineError(
                f"{name} has a backing file", hint="convert it to a single file: qemu-img convert -O qcow2 IMAGE NEW"
            )
        if int.from_bytes(features, "big") & _QCOW2_EXTERNAL_DATA:
            raise MachineError(
                f"{name} has an external data file",
                hint="convert it to a single file: qemu-img convert -O qcow2 IMAGE NEW",
            )
        return DiskFormat.QCOW2
    if head[_SECTOR - 2 : _SECTOR] == b"\x55\xaa" or head[_SECTOR : _SECTOR + 8] == b"EFI PART":
        return DiskFormat.RAW
    if head.lstrip()[:1] == b"<":
        raise MachineError(f"{name} is a web page, not a disk image", hint="check the URL")
    raise MachineError(
        f"{name} is not a disk image",
        hint="use a qcow2 or raw disk image, optionally compressed with xz, gzip, bzip2 or zstd",
    )
