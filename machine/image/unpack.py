"""What an image file is, by its first bytes and never by its name; and its content without compression."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors
from machine.image.fetch import CHUNK_BYTES
from machine.report import Reporter

_SECTOR = 512
_HOLE_BYTES = 64 * 1024
_QCOW2_HEADER = struct.Struct(">4sIQ")  # magic, version, offset of the backing file's name
_QCOW2_FEATURES_AT = 72
_QCOW2_EXTERNAL_DATA = 1 << 2  # docs/interop/qcow2.txt, incompatible features


class DiskFormat(StrEnum):
    QCOW2 = "qcow2"
    RAW = "raw"


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """`sha256` is that of the content, lower-case hex."""

    sha256: str
    format: DiskFormat


_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\xfd7zXZ\x00": lambda stream: cast("IO[bytes]", lzma.open(stream)),  # noqa: SIM115  (its file is the caller's)
    b"\x1f\x8b": lambda stream: cast("IO[bytes]", gzip.open(stream)),  # noqa: SIM115  (its file is the caller's)
    b"BZh": lambda stream: cast("IO[bytes]", bz2.open(stream)),  # noqa: SIM115  (its file is the caller's)
}


def unpack(source: Path, target: Path, report: Reporter, *, name: str | None = None) -> Unpacked:
    """Write the content of `source` to `target`, with holes for its zeros; `name` is what errors call the source.

    Raises:
        MachineError: `source` is cut short, or its content is no disk image that can stand alone.
    """
    size = source.stat().st_size
    name = name or os.fspath(source)
    with source.open("rb") as packed:
        magic = packed.read(6)
        packed.seek(0)
        opener = next((opener for prefix, opener in _OPENERS.items() if magic.startswith(prefix)), None)
        content = opener(packed) if opener else packed
        try:
            return _copy(content, target, name, lambda: report.progress(packed.tell(), size))
        except EOFError as error:
            raise MachineError(f"{name} is cut short: its compressed data has no end") from error
        except (lzma.LZMAError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise MachineError(f"{name} is damaged: {error}") from error


def _copy(content: IO[bytes], target: Path, name: str, tick: Callable[[], None]) -> Unpacked:
    digest = hashlib.sha256()
    with disk_errors(target):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_PRIVATE)
    with os.fdopen(descriptor, "wb") as stream, disk_errors(target):
        head = content.read(CHUNK_BYTES)
        disk_format = identify(head, name)
        chunk = head
        while chunk:
            digest.update(chunk)
            _write_sparse(stream, chunk)
            tick()
            chunk = content.read(CHUNK_BYTES)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())
    return Unpacked(sha256=digest.hexdigest(), format=disk_format)


def _write_sparse(stream: IO[bytes], chunk: bytes) -> None:
    for start in range(0, len(chunk), _HOLE_BYTES):
        piece = chunk[start : start + _HOLE_BYTES]
        if piece.count(0) == len(piece):
            stream.seek(len(piece), os.SEEK_CUR)
        else:
            stream.write(piece)


def identify(head: bytes, name: str) -> DiskFormat:
    """The format of the disk image that begins with `head`.

    Raises:
        MachineError: it is no disk image, or one whose content lies in other files.
    """
    if not head:
        raise MachineError(f"{name} is empty")
    if head.startswith(b"QFI\xfb") and len(head) >= _QCOW2_HEADER.size:
        _, version, backing = _QCOW2_HEADER.unpack_from(head)
        features = head[_QCOW2_FEATURES_AT : _QCOW2_FEATURES_AT + 8] if version >= 3 else b""
        if backing:
            raise MachineError(
                f"{name} has a backing file", hint="make it whole with: qemu-img convert -O qcow2 IMAGE WHOLE"
            )
        if int.from_bytes(features, "big") & _QCOW2_EXTERNAL_DATA:
            raise MachineError(
                f"{name} has an external data file",
                hint="make it whole with: qemu-img convert -O qcow2 IMAGE WHOLE",
            )
        return DiskFormat.QCOW2
    if head[_SECTOR - 2 : _SECTOR] == b"\x55\xaa" or head[_SECTOR : _SECTOR + 8] == b"EFI PART":
        return DiskFormat.RAW
    raise MachineError(
        f"{name} is not a disk image",
        hint="images are qcow2 or raw disks, plain or compressed by xz, gzip or bzip2",
    )
