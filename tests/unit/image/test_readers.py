"""Files of this host as sources of images."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.files import share_blocks
from machine.image import readers
from machine.image.readers import FileSource
from machine.image.unpack import DiskFormat, Unpacked

IMAGE = bytes(510) + b"\x55\xaa" + b"content" * 100_000


@pytest.mark.parametrize("shares", [True, False])
def test_plain_file_is_shared_or_copied_and_hashed(
    shares: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, target = tmp_path / "disk.raw", tmp_path / "target"
    image.write_bytes(IMAGE)

    def share(source: Path, target: Path) -> bool:
        if shares:
            shutil.copyfile(source, target)
        return shares

    monkeypatch.setattr(readers, "share_blocks", share)
    source = FileSource(image)
    unpacked = source.unpack(target, "disk.raw")
    assert unpacked == Unpacked(sha256=hashlib.sha256(IMAGE).hexdigest(), format=DiskFormat.RAW)
    assert target.read_bytes() == IMAGE
    assert source.is_plain
    source.stop()
    target.unlink()
    with pytest.raises(MachineError, match="stopped"):
        source.unpack(target, "disk.raw")


def test_file_system_that_cannot_share_leaves_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(IMAGE)
    if share_blocks(source, target):
        assert target.read_bytes() == IMAGE
    else:
        assert not target.exists()
