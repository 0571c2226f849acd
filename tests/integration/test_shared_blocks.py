"""Images and disks on file systems whose files can share blocks: nothing is copied, and each file stays its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.files import share_blocks
from machine.qemu.img import QemuImg
from tests.support.world import World, make_world

MIB = 1024**2
IMAGE_MIB = 64
MAKE = {"xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": ["mkfs.btrfs", "-q"]}


@pytest.fixture(params=MAKE)
def disk(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Path]:
    """A mounted file system of this kind, which a file holds."""
    make = MAKE[request.param]
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    program = shutil.which(make[0], path=path)
    if program is None:
        pytest.skip(f"{make[0]} is not installed")
    file, mounted = short_path / "file", short_path / "d"
    mounted.mkdir()
    file.touch()
    os.truncate(file, 512 * MIB)
    subprocess.run([program, *make[1:], file], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", file, mounted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{request.param} cannot be mounted here: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def used_mib(disk: Path) -> float:
    subprocess.run(["sync", "-f", disk], check=True)
    return shutil.disk_usage(disk).used / MIB


@pytest.fixture
def world(disk: Path) -> World:
    return make_world(disk / "w")


@pytest.fixture
def image(disk: Path) -> Path:
    raw = disk / "raw"
    raw.write_bytes(os.urandom(IMAGE_MIB * MIB))
    image = disk / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    raw.unlink()
    return image


@pytest.mark.linux("the file systems are Linux's")
def test_image_from_a_file_shares_its_blocks_and_is_changed_by_nobody(world: World, image: Path, disk: Path) -> None:
    before = used_mib(disk)
    world.init("box", image)
    assert used_mib(disk) - before < IMAGE_MIB / 4
    with image.open("r+b") as stream:
        stream.seek(10 * MIB)
        stream.write(bytes(MIB))
    assert world.must("image", "verify", "--format", "{{.Condition}}").stdout == "intact\n"


@pytest.mark.linux("the file systems are Linux's")
def test_copy_of_a_disk_shares_its_blocks(image: Path, disk: Path) -> None:
    before = used_mib(disk)
    QemuImg().copy(image, disk / "copy")
    assert used_mib(disk) - before < IMAGE_MIB / 4
    assert (disk / "copy").read_bytes() == image.read_bytes()


@pytest.mark.linux("the file systems are Linux's")
def test_copy_of_a_snapshot_shares_its_blocks_and_has_no_snapshots(image: Path, disk: Path) -> None:
    before = disk / "before.raw"
    QemuImg().to_raw(image, before, source_format="qcow2")
    QemuImg().take_snapshot(image, "tag")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 1M", image], check=True, capture_output=True)
    used = used_mib(disk)
    QemuImg().copy_snapshot(image, "tag", disk / "copy", 1)
    QemuImg().copy(image, disk / "present")
    assert used_mib(disk) - used < IMAGE_MIB / 4
    assert (QemuImg().snapshot_tags(disk / "copy"), QemuImg().snapshot_tags(disk / "present")) == ([], [])
    for copy, source in ((disk / "copy", before), (disk / "present", image)):
        subprocess.run(["qemu-img", "compare", copy, source], check=True, capture_output=True)


def test_file_that_is_on_another_file_system_is_not_shared(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert not share_blocks(tmp_path / "file", disk / "copy")
    assert not (disk / "copy").exists()
