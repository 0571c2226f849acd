"""What an image is by its first bytes, and its content without compression."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import struct
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.image.unpack import DiskFormat, identify, unpack
from machine.report import SilentReporter

RAW = bytearray(3 * 1024 * 1024)
RAW[510:512] = b"\x55\xaa"
RAW[2_000_000:2_000_003] = b"end"

WHOLE = "make it whole with: qemu-img convert -O qcow2 IMAGE WHOLE"


def qcow2_header(*, version: int = 3, backing: int = 0, features: int = 0) -> bytes:
    """The beginning of a qcow2 file, by QEMU's docs/interop/qcow2.txt."""
    start = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, backing, 0, 16, 2**30, 0, 0, 0, 0, 0, 0, 0)
    return start + (features.to_bytes(8, "big") if version >= 3 else b"") + bytes(400)


@pytest.mark.parametrize(
    ("head", "disk_format"),
    [
        (qcow2_header(), DiskFormat.QCOW2),
        (qcow2_header(version=2), DiskFormat.QCOW2),
        (qcow2_header(features=0b11), DiskFormat.QCOW2),
        (bytes(510) + b"\x55\xaa", DiskFormat.RAW),
        (bytes(512) + b"EFI PART", DiskFormat.RAW),
    ],
)
def test_disk_image_is_known_by_its_first_bytes(head: bytes, disk_format: DiskFormat) -> None:
    assert identify(head, "x") is disk_format


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"", "x is empty"),
        (qcow2_header(backing=512), f"x has a backing file; {WHOLE}"),
        (qcow2_header(version=2, backing=512), f"x has a backing file; {WHOLE}"),
        (qcow2_header(features=0b100), f"x has an external data file; {WHOLE}"),
        (
            b"<!DOCTYPE html>",
            "x is not a disk image; images are qcow2 or raw disks, plain or compressed by xz, gzip or bzip2",
        ),
    ],
)
def test_what_cannot_be_a_base_image_is_told(head: bytes, line: str) -> None:
    with pytest.raises(MachineError) as caught:
        identify(head, "x")
    assert caught.value.line == line


@pytest.mark.parametrize("packed", [bytes(RAW), gzip.compress(RAW), lzma.compress(RAW), bz2.compress(RAW)])
def test_content_comes_out_whole_and_sparse(packed: bytes, tmp_path: Path) -> None:
    source, target = tmp_path / "image.bin", tmp_path / "out"
    source.write_bytes(packed)
    unpacked = unpack(source, target, SilentReporter())
    assert target.read_bytes() == RAW
    assert (unpacked.format, unpacked.sha256) == (DiskFormat.RAW, hashlib.sha256(RAW).hexdigest())
    assert target.stat().st_blocks * 512 < len(RAW) / 2


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_packed_image_that_is_cut_short_is_told(pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    source = tmp_path / "image.bin"
    source.write_bytes(pack(RAW)[:-20])
    with pytest.raises(MachineError) as caught:
        unpack(source, tmp_path / "out", SilentReporter())
    assert caught.value.line == f"{source} is cut short: its compressed data has no end"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_packed_image_that_is_damaged_is_told(pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    source = tmp_path / "image.bin"
    words = b"".join(hashlib.sha256(bytes([number])).hexdigest().encode() for number in range(256))
    packed = bytearray(pack(bytes(RAW[:512]) + words * 8))
    middle = len(packed) // 2
    packed[middle : middle + 64] = bytes(64)
    source.write_bytes(packed)
    with pytest.raises(MachineError) as caught:
        unpack(source, tmp_path / "out", SilentReporter())
    assert caught.value.line.startswith(f"{source} is damaged: ")
