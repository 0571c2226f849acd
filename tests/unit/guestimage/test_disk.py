from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.guestimage.disk import (
    ALIGNMENT,
    CORE_TYPES,
    SECTOR,
    Partition,
    boot_sector,
    copy_to_offset,
    core_image,
    fill_esp,
    grub_mkimage_argv,
    install_core,
    mke2fs_argv,
    plan_layout,
    sfdisk_script,
)
from machine.guestimage.recipe import BootLoader, CoreKind, ImagePlan
from machine.model.arch import Arch
from machine.model.image import ImageVariant

BIOS = BootLoader(platform="i386-pc", package="grub-pc-bin", modules=("biosdisk",), efi_path=None)
UEFI = BootLoader(platform="x86_64-efi", package="grub-efi-amd64-bin", modules=(), efi_path="EFI/BOOT/BOOTX64.EFI")


def make_plan() -> ImagePlan:
    return ImagePlan(
        arch=Arch.X86_64,
        suite="trixie",
        variant=ImageVariant.SMALL,
        components=("main",),
        packages=("systemd",),
        native_packages=(),
        loaders=(BIOS, UEFI),
        root_type="4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
        core=CoreKind.BIOS,
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
    layout = plan_layout(replace(make_plan(), core=None))
    assert [partition.name for partition in layout.partitions] == ["EFI-SYSTEM", "root"]
    assert layout.partitions[0].start == ALIGNMENT


def test_power_has_the_partition_that_its_firmware_runs_and_none_for_uefi() -> None:
    layout = plan_layout(
        replace(make_plan(), core=CoreKind.PREP, loaders=(replace(BIOS, platform="powerpc-ieee1275"),))
    )
    assert [partition.name for partition in layout.partitions] == ["PREP", "root"]
    assert layout.partitions[0].type == "9E1A2D38-C612-4316-AA26-8B49521E5A8B"


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
        f"start=4096, size=65536, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={layout.partitions[1].uuid},"
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
    words = grub_mkimage_argv(BIOS, Path("/lib/i386-pc"), Path("/r/embed.cfg"), Path("/w/core"))
    argv = [os.fspath(word) for word in words]
    assert argv[:5] == ["grub-mkimage", "--directory", "/lib/i386-pc", "--format", "i386-pc"]
    assert argv[-1] == "biosdisk"
    assert {"linux", "ext2", "search_label", "serial"} <= set(argv)


def test_boot_sector_names_the_core_and_keeps_the_partition_table() -> None:
    sector = boot_sector(b"\xaa" * SECTOR, b"\x55" * SECTOR, 2048)
    assert len(sector) == SECTOR
    assert struct.unpack_from("<Q", sector, 0x5C) == (2048,)
    assert sector[0x66:0x68] == b"\x90\x90"
    assert sector[440:] == b"\x55" * 72


def test_core_image_names_the_sectors_after_its_first() -> None:
    core = core_image(b"\xaa" * 1300, 2048)
    assert len(core) == 1300
    assert struct.unpack_from("<QHH", core, 500) == (2049, 2, 0x820)


@pytest.mark.parametrize("has_bios", [True, False])
def test_core_that_is_too_large_is_refused_and_nothing_is_written(has_bios: bool, tmp_path: Path) -> None:
    core, disk = tmp_path / "core", tmp_path / "disk"
    core.write_bytes(b"\xaa" * 1300)
    disk.write_bytes(b"old")
    partition = Partition(name="core", type=CORE_TYPES[CoreKind.PREP], uuid=uuid.UUID(int=0), start=2048, size=2)
    with pytest.raises(MachineError, match="3 sectors does not fit into 2 sectors"):
        install_core(disk, partition, core, core if has_bios else None)
    assert disk.read_bytes() == b"old"


def test_power_firmware_gets_the_core_as_it_is_and_the_first_sector_stays(tmp_path: Path) -> None:
    core, disk = tmp_path / "core", tmp_path / "disk"
    core.write_bytes(b"\x7fELF")
    disk.write_bytes(b"\x55" * SECTOR)
    partition = Partition(name="core", type=CORE_TYPES[CoreKind.PREP], uuid=uuid.UUID(int=0), start=4, size=2)
    install_core(disk, partition, core, None)
    assert disk.read_bytes() == b"\x55" * SECTOR + bytes(3 * SECTOR) + b"\x7fELF"


def test_loader_and_its_configuration_go_to_their_folders_each_of_which_is_made_once() -> None:
    calls: list[list[str]] = []

    def run(argv: Sequence[str | os.PathLike[str]], *, stdin: str | None = None) -> None:
        calls.append([os.fspath(word) for word in argv])

    files = {"EFI/debian/grub.cfg": Path("/r/embed.cfg"), "EFI/BOOT/BOOTAA64.EFI": Path("/w/grub")}
    fill_esp(Path("/w/esp"), files, run)
    assert calls == [
        ["mmd", "-i", "/w/esp", "::/EFI"],
        ["mmd", "-i", "/w/esp", "::/EFI/BOOT"],
        ["mmd", "-i", "/w/esp", "::/EFI/debian"],
        ["mcopy", "-i", "/w/esp", "/r/embed.cfg", "::/EFI/debian/grub.cfg"],
        ["mcopy", "-i", "/w/esp", "/w/grub", "::/EFI/BOOT/BOOTAA64.EFI"],
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
