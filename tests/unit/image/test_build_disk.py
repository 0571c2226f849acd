from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from machine.image.build_disk import (
    ALIGNMENT,
    SECTOR,
    boot_sector,
    copy_into_esp,
    copy_to_offset,
    core_image,
    grub_mkimage_argv,
    mke2fs_argv,
    plan_layout,
    sfdisk_script,
)
from machine.image.build_recipe import BootLoader, ImagePlan
from machine.model.arch import Arch

BIOS = BootLoader(platform="i386-pc", package="grub-pc-bin", modules=("biosdisk",), efi_path=None)


def make_plan() -> ImagePlan:
    return ImagePlan(
        arch=Arch.X86_64,
        suite="trixie",
        components=("main",),
        packages=("systemd",),
        loaders=(BIOS,),
        root_type="4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
        bios=True,
        virtual_size=1 << 30,
        esp_size=32 << 20,
    )


def test_partitions_are_aligned_follow_each_other_and_leave_room_for_the_backup_table() -> None:
    layout = plan_layout(make_plan())
    position = ALIGNMENT
    for partition in layout.partitions:
        assert partition.start == position
        assert partition.size % ALIGNMENT == 0
        position += partition.size
    assert layout.size // SECTOR - ALIGNMENT - 33 <= position <= layout.size // SECTOR - 33
    assert [partition.name for partition in layout.partitions] == ["BIOS-BOOT", "EFI-SYSTEM", "root"]


def test_without_bios_the_efi_partition_comes_first() -> None:
    layout = plan_layout(replace(make_plan(), bios=False))
    assert [partition.name for partition in layout.partitions] == ["EFI-SYSTEM", "root"]
    assert layout.esp.start == ALIGNMENT


def test_identifiers_repeat_for_one_architecture_and_differ_between_two() -> None:
    ours, again = plan_layout(make_plan()), plan_layout(make_plan())
    other = plan_layout(replace(make_plan(), arch=Arch.AARCH64))
    assert ours == again
    assert ours.root.uuid != other.root.uuid


def test_sfdisk_script() -> None:
    layout = plan_layout(make_plan())
    assert sfdisk_script(layout) == (
        "label: gpt\n"
        f"label-id: {layout.disk_uuid}\n"
        "unit: sectors\n"
        "first-lba: 2048\n"
        "\n"
        f"start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid={layout.partitions[0].uuid},"
        " name=BIOS-BOOT\n"
        f"start=4096, size=65536, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={layout.esp.uuid},"
        " name=EFI-SYSTEM\n"
        f"start=69632, size=2025472, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid={layout.root.uuid},"
        " name=root\n"
    )


def test_file_system_fills_the_root_partition_exactly() -> None:
    layout = plan_layout(make_plan())
    argv = [os.fspath(word) for word in mke2fs_argv(layout, Path("/w/root"), Path("/w/disk.raw"))]
    assert argv[-2:] == ["/w/disk.raw", "1012736k"]
    assert argv[argv.index("-d") + 1] == "/w/root"
    assert f"offset={69632 * 512}," in argv[argv.index("-E") + 1]


def test_grub_image_has_the_modules_of_its_platform() -> None:
    argv = [os.fspath(word) for word in grub_mkimage_argv(BIOS, Path("/r/embed.cfg"), Path("/w/core"))]
    assert argv[:3] == ["grub-mkimage", "--format", "i386-pc"]
    assert argv[-1] == "biosdisk"
    assert {"linux", "ext2", "search_label", "serial"} <= set(argv)


def test_boot_sector_names_the_core_and_keeps_the_partition_table() -> None:
    sector = boot_sector(b"\xaa" * SECTOR, b"\x55" * SECTOR, 2048)
    assert len(sector) == SECTOR
    assert struct.unpack_from("<Q", sector, 0x5C) == (2048,)
    assert sector[0x66:0x68] == b"\x90\x90"
    assert sector[440:] == b"\x55" * 72


def test_core_image_names_the_sectors_after_its_first() -> None:
    core = core_image(b"\xaa" * 1300, 2048, 2048)
    assert len(core) == 1300
    assert struct.unpack_from("<QHH", core, 500) == (2049, 2, 0x820)


def test_core_image_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="3 sectors does not fit into 2"):
        core_image(b"\xaa" * 1300, 2048, 2)


def test_efi_image_goes_to_its_folder() -> None:
    calls: list[list[str]] = []

    def run(argv: Sequence[str | os.PathLike[str]], *, stdin: str | None = None) -> None:
        calls.append([os.fspath(word) for word in argv])

    copy_into_esp(Path("/w/esp"), Path("/w/grub"), "EFI/BOOT/BOOTX64.EFI", run)
    assert calls == [
        ["mmd", "-D", "s", "-i", "/w/esp", "::/EFI"],
        ["mmd", "-D", "s", "-i", "/w/esp", "::/EFI/BOOT"],
        ["mcopy", "-o", "-i", "/w/esp", "/w/grub", "::/EFI/BOOT/BOOTX64.EFI"],
    ]


def test_copy_to_offset_leaves_the_rest_and_skips_zeros(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"\0" * 65536 + b"data")
    target.write_bytes(b"head")
    copy_to_offset(source, target, 4096)
    content = target.read_bytes()
    assert content[:4] == b"head"
    assert content[4096 + 65536 :] == b"data"
    assert not content[4 : 4096 + 65536].strip(b"\0")
