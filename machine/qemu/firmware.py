"""Find UEFI firmware for the boards that need it: by QEMU's descriptors, or where distributions keep it.

QEMU's docs/interop/firmware.json specifies the descriptors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors, fsync_file
from machine.model.arch import Arch
from machine.model.host import Host
from machine.qemu.boards import BOARDS, Board
from machine.qemu.img import QemuImg

_RAW = "raw"
# Machines have neither System Management Mode nor a use for enrolled keys; stateless firmware has no variables.
_UNWANTED = {"secure-boot", "requires-smm", "enrolled-keys"}


@dataclass(frozen=True, kw_only=True)
class FirmwareFiles:
    """The code, mapped read-only, and the template of the variables, of which each machine has a copy of its own.

    The formats are in QEMU's words; a machine's copy is always raw.
    """

    code: Path
    variables: Path
    code_format: str = _RAW
    variables_format: str = _RAW


def firmware_directories(binary: Path, host: Host, config_home: Path) -> tuple[Path, ...]:
    """The directories of descriptors; a file hides those of the same name in earlier directories."""
    own = [parent / "share/qemu/firmware" for parent in _prefixes(binary)]
    shared = [Path(directory) for directory in host.os.traits.firmware_directories]
    several = [*shared, *own, Path("/etc/qemu/firmware"), config_home / "qemu/firmware"]
    return tuple(dict.fromkeys(several))


def _prefixes(binary: Path) -> list[Path]:
    """The prefixes that the binary may be installed in: Homebrew links it from one that changes into another."""
    return [path.parent.parent for path in (binary.resolve(), binary)]


def read_descriptors(directories: Iterable[Path]) -> list[dict[str, Any]]:
    """The descriptors in the order in which to try them; files that are not JSON objects are skipped."""
    texts: dict[str, bytes] = {}
    for directory in directories:
        for path in directory.glob("*.json"):
            try:
                texts[path.name] = path.read_bytes()
            except OSError:
                continue
    return [document for _, text in sorted(texts.items()) if (document := _parse(text))]


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:  # an empty file hides others of its name
        return None
    return document if isinstance(document, dict) else None


def described_files(descriptor: Mapping[str, Any], board: Board) -> FirmwareFiles | None:
    """The files that a descriptor names, None if it is not of UEFI firmware for this board."""
    try:
        mapping = descriptor["mapping"]
        wanted = (
            "uefi" in descriptor["interface-types"]
            and mapping["device"] == "flash"
            and mapping.get("mode", "split") == "split"
            and _UNWANTED.isdisjoint(descriptor["features"])
            and any(_suits(target, board) for target in descriptor["targets"])
        )
        if not wanted:
            return None
        code, variables = mapping["executable"], mapping["nvram-template"]
        return FirmwareFiles(
            code=Path(code["filename"]),
            variables=Path(variables["filename"]),
            code_format=str(code["format"]),
            variables_format=str(variables["format"]),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _suits(target: Mapping[str, Any], board: Board) -> bool:
    """Whether a target is this board; its machines have a version, which ours has not."""
    kind = board.machine.partition(",")[0]
    versions = (kind, f"{kind}-0.0")
    return target["architecture"] == board.target and any(
        fnmatchcase(version, pattern) for pattern in target["machines"] for version in versions
    )


def find_firmware(arch: Arch, host: Host, *, binary: str, config_home: Path) -> FirmwareFiles | None:
    """The first firmware for the board on this host, None where QEMU itself has the board's.

    Raises:
        MachineError: this host has none.
    """
    board = BOARDS[arch]
    if board.firmware is None:
        return None
    descriptors = read_descriptors(firmware_directories(Path(binary), host, config_home))
    described = (described_files(descriptor, board) for descriptor in descriptors)
    shipped = [
        tuple(os.fspath(prefix / "share/qemu" / name) for name in board.firmware.shipped)
        for prefix in _prefixes(Path(binary))
    ]
    known = (
        FirmwareFiles(code=Path(code), variables=Path(variables))
        for code, variables in (*shipped, *board.firmware.files)
    )
    for files in (*described, *known):
        if files and files.code.exists() and files.variables.exists():
            return files
    raise MachineError(
        f"no UEFI firmware for {arch} guests on this host",
        hint=host.install_hint(board.firmware.packages, f"EDK II for QEMU's machine {board.machine.partition(',')[0]}"),
    )


def ensure_variables(firmware: FirmwareFiles, path: Path) -> None:
    """Make a machine's own copy of the variables, unless it has one.

    Raises:
        MachineError: the template cannot be read, or the disk is full.
    """
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        try:
            # Raw, so that no guest can make its variables look like another format.
            QemuImg().to_raw(firmware.variables, fresh, source_format=firmware.variables_format)
            fresh.chmod(FILE_PRIVATE)
            fsync_file(fresh)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
