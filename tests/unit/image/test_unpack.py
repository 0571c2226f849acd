"""What an image is by its first bytes, and its content without compression."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import DiskError, MachineError
from machine.image.unpack import DiskFormat, Unpacked, identify, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RAW = bytearray(3 * 1024 * 1024)
RAW[510:512] = b"\x55\xaa"
RAW[2_000_000:2_000_003] = b"end"

WHOLE = "convert it to a single file: qemu-img convert -O qcow2 IMAGE NEW"


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
            b"just a text",
            "x is not a disk image; use a qcow2 or raw disk image, optionally compressed with xz, gzip, bzip2 or zstd",
        ),
        (b"\n<!DOCTYPE html>", "x is a web page, not a disk image; check the URL"),
    ],
)
def test_what_cannot_be_a_base_image_is_told(head: bytes, line: str) -> None:
    with pytest.raises(MachineError) as caught:
        identify(head, "x")
    assert caught.value.line == line


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def unpack_bytes(packed: bytes, directory: Path) -> Unpacked:
    return unpack(io.BytesIO(packed), directory / "out", "x")


@pytest.mark.parametrize("packer", ["plain", *PACKERS])
def test_content_comes_out_whole_and_sparse(packer: str, tmp_path: Path) -> None:
    unpacked = unpack_bytes(PACKERS.get(packer, bytes)(bytes(RAW)), tmp_path)
    target = tmp_path / "out"
    assert target.read_bytes() == RAW
    assert (unpacked.format, unpacked.sha256) == (DiskFormat.RAW, hashlib.sha256(RAW).hexdigest())
    assert target.stat().st_blocks * 512 < len(RAW) / 2


class Dripping(io.BytesIO):
    """A source that gives one byte at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(1 if size else size)


@pytest.mark.parametrize("packer", ["plain", *PACKERS])
def test_pieces_of_every_size_are_judged_alike(packer: str, tmp_path: Path) -> None:
    content = bytes(RAW[:4096])
    pack = PACKERS.get(packer, bytes)
    assert unpack(Dripping(pack(content)), tmp_path / "out", "x").format is DiskFormat.RAW
    bad = qcow2_header(features=0b100)
    if packer != "plain":
        packed = pack(bad[:20]) + pack(bad[20:])  # two members: the first piece of content ends before the features
        with pytest.raises(MachineError, match="x has an external data file"):
            unpack_bytes(packed, tmp_path / "nowhere")
    with pytest.raises(MachineError, match="x has an external data file"):
        unpack(Dripping(pack(bad)), tmp_path / "nowhere", "x")


@pytest.mark.parametrize("packer", PACKERS)
def test_several_packed_pieces_in_a_row_are_one_image(packer: str, tmp_path: Path) -> None:
    pack = PACKERS[packer]
    packed = pack(bytes(RAW[:1_000_000])) + bytes(512) + pack(bytes(RAW[1_000_000:])) + bytes(1024)
    unpack_bytes(packed, tmp_path)
    assert (tmp_path / "out").read_bytes() == RAW


@given(st.lists(st.sampled_from([0, 1, 65_535, 65_536, 65_537, 300_000]), max_size=8), st.booleans())
def test_holes_of_every_length_keep_the_content(lengths: list[int], zeros_first: bool) -> None:
    pieces = [bytes(n) if (index % 2 == 0) is zeros_first else b"x" * n for index, n in enumerate(lengths)]
    content = bytes(RAW[:512]) + b"".join(pieces)
    with tempfile.TemporaryDirectory() as directory:
        unpacked = unpack_bytes(content, Path(directory))
        assert (Path(directory) / "out").read_bytes() == content
    assert unpacked.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("missing", [1, 20])
def test_packed_image_that_is_cut_short_is_told(missing: int, packer: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        unpack_bytes(PACKERS[packer](bytes(RAW))[:-missing], tmp_path)
    assert caught.value.line == "x is cut short: its compressed data is incomplete"


@pytest.mark.parametrize("packer", PACKERS)
def test_packed_image_that_is_damaged_is_told(packer: str, tmp_path: Path) -> None:
    words = b"".join(hashlib.sha256(bytes([number])).hexdigest().encode() for number in range(256))
    packed = bytearray(PACKERS[packer](bytes(RAW[:512]) + words * 8))
    middle = len(packed) // 2
    packed[middle : middle + 64] = bytes(64)
    with pytest.raises(MachineError) as caught:
        unpack_bytes(bytes(packed), tmp_path)
    assert caught.value.line.startswith("x is damaged: ") or "cut short" in caught.value.line


@pytest.mark.parametrize("packer", PACKERS)
def test_garbage_after_the_end_is_told(packer: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        unpack_bytes(PACKERS[packer](bytes(RAW)) + b"garbage", tmp_path)
    assert caught.value.line == "x has at least 7 bytes of other data after its compressed data"


def test_image_that_swells_beyond_reason_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machine.image.unpack._BOMB_BYTES", 1024**2)
    bomb = lzma.compress(bytes(RAW[:512]) + b"x" * 64 * 1024**2)
    with pytest.raises(
        MachineError, match=r"^x cannot be a disk image, because its \d+ bytes unpack to more than \d+ MiB$"
    ):
        unpack_bytes(bomb, tmp_path)


def test_disk_that_is_full_ends_the_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskError, match="no space left on the disk"):
        unpack_bytes(bytes(RAW) * 30, tmp_path)
