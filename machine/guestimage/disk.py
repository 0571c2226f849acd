"""Create a bootable GPT disk from a folder, without root, loop devices or mounts.

Pure functions decide the layout; `write_disk` carries it out.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from machine.errors import MachineError
from machine.guestimage.recipe import EPOCH, BootLoader, CoreKind, ImagePlan

SECTOR = 512
ALIGNMENT = (1 << 20) // SECTOR
CORE_SECTORS = ALIGNMENT
GPT_BACKUP_SECTORS = 33

CORE_NAMES = {CoreKind.BIOS: "BIOS-BOOT", CoreKind.PREP: "PREP"}
CORE_TYPES = {
    CoreKind.BIOS: "21686148-6449-6E6F-744E-656564454649",
    CoreKind.PREP: "9E1A2D38-C612-4316-AA26-8B49521E5A8B",
}
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"

ROOT_LABEL = "root"
GRUB_LIBRARY = Path("/usr/lib/grub")
# The modules that grub.cfg uses, all built in, so that a guest needs no GRUB packages.
GRUB_MODULES = (
    "part_gpt", "ext2", "search", "search_label", "normal", "configfile", "linux", "test", "echo",
    "terminal", "serial", "halt", "reboot", "sleep",
)  # fmt: skip

# Offsets in GRUB's BIOS images, from grub-core/boot/i386/pc/{boot,diskboot}.S and include/grub/i386/pc/boot.h:
# the core image's sector, a jump that hard disks do not need, and the core's first block list (sector, count,
# segment) at the end of its first sector.
BOOT_CODE_SIZE = 440
KERNEL_SECTOR_OFFSET = 0x5C
DRIVE_CHECK_OFFSET = 0x66
BLOCK_LIST = struct.Struct("<QHH")
KERNEL_SEGMENT = 0x820


class Run(Protocol):
    """Runs a program of the build, and waits for its end. If the program fails, raises MachineError."""

    def __call__(self, argv: Sequence[str | os.PathLike[str]], *, stdin: str | None = None) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A GPT partition. Its start and size are in sectors."""

    name: str
    type: str
    uuid: uuid.UUID
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class GrubFiles:
    """The files from which GRUB's images are made.

    `config` is embedded in each image. The GRUB files of the `fetched` loaders are in the work folder, those of other
    loaders are on this host.
    """

    fetched: tuple[BootLoader, ...]
    config: Path


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The partitions of a disk. `core` is for BIOS or PReP, and `esp` for UEFI. `root` is last, so that it can grow."""

    disk_uuid: uuid.UUID
    size: int
    core: Partition | None
    esp: Partition | None
    root: Partition

    @property
    def partitions(self) -> tuple[Partition, ...]:
        return (*([self.core] if self.core else []), *([self.esp] if self.esp else []), self.root)


def plan_layout(plan: ImagePlan) -> Layout:
    """Plan the partitions of the disk, which begin at whole MiB, with UUIDs that are the same in every build."""

    def identifier(name: str) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{plan.arch.value}.boot2podman.invalid")

    start = ALIGNMENT
    core = esp = None
    if plan.core:
        core = Partition(
            name=CORE_NAMES[plan.core], type=CORE_TYPES[plan.core], uuid=identifier(plan.core), start=start,
            size=CORE_SECTORS,
        )  # fmt: skip
        start += core.size
    if any(loader.efi_path for loader in plan.loaders):
        size = plan.esp_size // SECTOR
        esp = Partition(name="EFI-SYSTEM", type=ESP_TYPE, uuid=identifier("esp"), start=start, size=size)
        start += esp.size
    end = (plan.virtual_size // SECTOR - GPT_BACKUP_SECTORS) // ALIGNMENT * ALIGNMENT
    root = Partition(name=ROOT_LABEL, type=plan.root_type, uuid=identifier("root"), start=start, size=end - start)
    return Layout(disk_uuid=identifier("disk"), size=plan.virtual_size, core=core, esp=esp, root=root)


def sfdisk_script(layout: Layout) -> str:
    lines = ["label: gpt", f"label-id: {layout.disk_uuid}", "unit: sectors", f"first-lba: {ALIGNMENT}", ""]
    lines += [f"start={p.start}, size={p.size}, type={p.type}, uuid={p.uuid}, name={p.name}" for p in layout.partitions]
    return "\n".join(lines) + "\n"


def mke2fs_argv(layout: Layout, root: Path, disk: Path) -> list[str | os.PathLike[str]]:
    """Return the mke2fs command that fills the root partition of `disk` with the files in the folder `root`.

    The command does not write inode tables, because these would be zeros, and the disk contains only zeros so far.
    """
    extended = ",".join(
        [
            f"offset={layout.root.start * SECTOR}",
            f"hash_seed={layout.root.uuid}",
            "root_owner=0:0",
            "assume_storage_prezeroed=1",
        ]
    )
    return [
        "mke2fs", "-q", "-F",
        "-t", "ext4",
        # GRUB 2.06 cannot read metadata_csum_seed; orphan_file needs e2fsprogs 1.47 and has no benefit here.
        "-O", "^metadata_csum_seed,^orphan_file",
        "-m", "1",
        "-L", ROOT_LABEL,
        "-U", str(layout.root.uuid),
        "-E", extended,
        "-d", root,
        disk, f"{layout.root.size * SECTOR // 1024}k",
    ]  # fmt: skip


def grub_mkimage_argv(loader: BootLoader, library: Path, config: Path, output: Path) -> list[str | os.PathLike[str]]:
    """Return the grub-mkimage command that creates the GRUB image `output` from the modules in the folder `library`."""
    return [
        "grub-mkimage",
        "--directory", library,
        "--format", loader.platform,
        "--prefix", "/boot/grub",
        "--config", config,
        "--output", output,
        *GRUB_MODULES, *loader.modules,
    ]  # fmt: skip


def boot_sector(boot_image: bytes, first_sector: bytes, core_sector: int) -> bytes:
    """Return a new first sector for the disk. GRUB's code replaces the old code, and loads the sector `core_sector`."""
    code = bytearray(boot_image[:BOOT_CODE_SIZE])
    struct.pack_into("<Q", code, KERNEL_SECTOR_OFFSET, core_sector)
    code[DRIVE_CHECK_OFFSET : DRIVE_CHECK_OFFSET + 2] = b"\x90\x90"
    return bytes(code) + first_sector[BOOT_CODE_SIZE:SECTOR]


def check_core_fits(core: bytes, room: int) -> None:
    """Check that GRUB's core fits into `room` sectors.

    Raises:
        MachineError: GRUB's core needs more than `room` sectors.
    """
    sectors = -(-len(core) // SECTOR)
    if sectors > room:
        raise MachineError(f"GRUB's core image of {sectors} sectors does not fit into {room} sectors")


def core_image(core: bytes, core_sector: int) -> bytes:
    """Return GRUB's core.img for a BIOS, changed in such a way that its first sector loads the rest of core.img."""
    patched = bytearray(core)
    rest = -(-len(core) // SECTOR) - 1
    BLOCK_LIST.pack_into(patched, SECTOR - BLOCK_LIST.size, core_sector + 1, rest, KERNEL_SEGMENT)
    return bytes(patched)


def write_disk(
    plan: ImagePlan, *, root: Path, grub: GrubFiles, work: Path, disk: Path, run: Run, run_mapped: Run
) -> None:
    """Create the raw disk image `disk` from the files in the folder `root`.

    `run` runs a program. `run_mapped` runs a program that has to see the owners of the files.

    Raises:
        MachineError: one of the programs failed.
    """
    layout = plan_layout(plan)
    with disk.open("wb") as stream:
        stream.truncate(layout.size)
    run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk], stdin=sfdisk_script(layout))
    run_mapped(mke2fs_argv(layout, root, disk))

    esp_files: dict[str, Path] = {}
    for loader in plan.loaders:
        library = (work if loader in grub.fetched else GRUB_LIBRARY) / loader.platform
        image = library / loader.image if loader.image else work / f"grub-{loader.platform}"
        if not loader.image:
            run(grub_mkimage_argv(loader, library, grub.config, image))
        if loader.config:
            esp_files[loader.config] = grub.config
        if loader.efi_path:
            esp_files[loader.efi_path] = image
        elif layout.core:
            install_core(disk, layout.core, image, (library / "boot.img") if plan.core is CoreKind.BIOS else None)
    if layout.esp:
        esp = work / "esp.img"
        make_esp(layout.esp, esp, run)
        fill_esp(esp, esp_files, run)
        copy_to_offset(esp, disk, layout.esp.start * SECTOR)


def make_esp(partition: Partition, esp: Path, run: Run) -> None:
    with esp.open("wb") as stream:
        stream.truncate(partition.size * SECTOR)
    volume = f"{partition.uuid.fields[0]:08x}"
    run(["mkfs.vfat", "--invariant", "-F", "16", "-n", "EFI-SYSTEM", "-i", volume, esp])


def fill_esp(esp: Path, files: Mapping[str, Path], run: Run) -> None:
    """Create folders in the FAT file system of the partition image `esp`, and copy `files` to their paths there."""
    folders = {parent.as_posix() for target in files for parent in PurePosixPath(target).parents} - {"."}
    for folder in sorted(folders):
        run(["mmd", "-i", esp, f"::/{folder}"])
    for target, file in files.items():
        run(["mcopy", "-i", esp, file, f"::/{target}"])


def install_core(disk: Path, partition: Partition, core: Path, boot_image: Path | None) -> None:
    """Write GRUB's core to its partition. For a BIOS, also write GRUB's `boot_image` to the disk's first sector."""
    content = core.read_bytes()
    check_core_fits(content, partition.size)
    with disk.open("r+b") as stream:
        if boot_image:
            first_sector = stream.read(SECTOR)
            stream.seek(0)
            stream.write(boot_sector(boot_image.read_bytes(), first_sector, partition.start))
            content = core_image(content, partition.start)
        stream.seek(partition.start * SECTOR)
        stream.write(content)


def copy_to_offset(source: Path, target: Path, offset: int) -> None:
    """Write the content of the file `source` into the sparse file `target`, at position `offset`. Skip zeros."""
    chunk_size = 1 << 16
    with source.open("rb") as reader, target.open("r+b") as writer:
        position = offset
        while chunk := reader.read(chunk_size):
            if chunk.strip(b"\0"):
                writer.seek(position)
                writer.write(chunk)
            position += len(chunk)


FIXED_TIMES = {"SOURCE_DATE_EPOCH": str(EPOCH), "E2FSPROGS_FAKE_TIME": str(EPOCH), "MTOOLS_SKIP_CHECK": "1"}
