"""Write cloud-init's seed disk, a small FAT16 file system with files in the root directory only (pure).

The format is FAT with long names, by Microsoft's specification (fatgen103). The kernel of every cloud image can mount
FAT, because EFI system partitions are FAT. Writing FAT needs neither root nor external programs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from machine.errors import MachineError

_SECTOR = 512
# A file system of fewer than 4085 clusters would be FAT12.
_CLUSTERS = 16_384
_RESERVED_SECTORS = 1
_FATS = 2
_FAT_SECTORS = -(-(_CLUSTERS + 2) * 2 // _SECTOR)
_ROOT_ENTRIES = 512
_ENTRY = 32
_SECTORS = _RESERVED_SECTORS + _FATS * _FAT_SECTORS + _ROOT_ENTRIES * _ENTRY // _SECTOR + _CLUSTERS

_END_OF_CHAIN = 0xFFFF
_HARD_DISK = 0xF8
_VOLUME_ID = 0x08
_LONG_NAME = 0x0F
_LAST_PART = 0x40
# The number of a name's characters that fit in one entry, and the offset and length of each place for them.
_PART = 13
_PART_PLACES = ((1, 10), (14, 12), (28, 4))
# 1 January 2026; fixed, so that the same files always give the same disk.
_DATE = (2026 - 1980) << 9 | 1 << 5 | 1


def fat_image(label: str, files: Mapping[str, str]) -> bytes:
    """Return a disk image with these files. `label` has up to 11 letters.

    The image ends after the last byte that is used. The caller has to pad it to `fat_size`.

    Raises:
        MachineError: the files are larger than the disk.
    """
    entries = [_entry(label.ljust(11).encode("ascii"), _VOLUME_ID)]
    table = [0xFF00 | _HARD_DISK, _END_OF_CHAIN]
    data = bytearray()
    for number, (name, text) in enumerate(files.items()):
        content = text.encode()
        first, count = len(table), -(-len(content) // _SECTOR)
        if first + count > _CLUSTERS + 2:
            raise MachineError(f"the files for the guest's first boot are larger than {_CLUSTERS * _SECTOR >> 20} MiB")
        table += [*range(first + 1, first + count), *([_END_OF_CHAIN] if count else [])]
        data += content.ljust(count * _SECTOR, b"\0")
        short = f"FILE{number:04}".ljust(11).encode("ascii")
        entries += _long_name(name, short)
        entries.append(_entry(short, 0, first=first if count else 0, size=len(content)))
    fat = struct.pack(f"<{len(table)}H", *table).ljust(_FAT_SECTORS * _SECTOR, b"\0")
    root = b"".join(entries).ljust(_ROOT_ENTRIES * _ENTRY, b"\0")
    return _boot_sector(label) + fat * _FATS + root + bytes(data)


def fat_size() -> int:
    """Return the size of the whole disk in bytes."""
    return _SECTORS * _SECTOR


def _boot_sector(label: str) -> bytes:
    fields = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s",
        b"\xeb\x3c\x90", b"MSWIN4.1", _SECTOR, 1, _RESERVED_SECTORS, _FATS, _ROOT_ENTRIES, _SECTORS, _HARD_DISK,
        _FAT_SECTORS, 32, 2, 0, 0,
        0x80, 0, 0x29, 0x62_32_70_00, label.ljust(11).encode("ascii"), b"FAT16   ",
    )  # fmt: skip
    return fields.ljust(_SECTOR - 2, b"\0") + b"\x55\xaa"


def _entry(name: bytes, attributes: int, *, first: int = 0, size: int = 0) -> bytes:
    return struct.pack("<11sBBBHHHHHHHI", name, attributes, 0, 0, 0, _DATE, _DATE, 0, 0, _DATE, first, size)


def _long_name(name: str, short: bytes) -> Iterator[bytes]:
    """Yield the directory entries for a long name, the name's last part first. The file's own entry has to follow."""
    checksum = 0
    for byte in short:
        checksum = ((checksum & 1) << 7 | checksum >> 1) + byte & 0xFF
    units = name.encode("utf-16-le")
    parts = [units[start : start + 2 * _PART] for start in range(0, len(units), 2 * _PART)]
    for number, part in reversed(list(enumerate(parts, start=1))):
        if len(part) < 2 * _PART:
            part = (part + b"\0\0").ljust(2 * _PART, b"\xff")  # noqa: PLW2901
        entry = bytearray(_ENTRY)
        entry[0] = number | (_LAST_PART if number == len(parts) else 0)
        entry[11], entry[13] = _LONG_NAME, checksum
        for place, length in _PART_PLACES:
            entry[place : place + length], part = part[:length], part[length:]  # noqa: PLW2901
        yield bytes(entry)
