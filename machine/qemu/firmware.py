"""Find UEFI firmware for the boards that need it.

Descriptors name the firmware's files, as QEMU's docs/interop/firmware.json specifies. Without a descriptor, the files
are expected where distributions install them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from machine.errors import MachineError, Page
from machine.files import FILE_PRIVATE, disk_errors, fsync_file
from machine.model.arch import Arch
from machine.model.host import Host
from machine.qemu.boards import BOARDS, Board
from machine.qemu.img import QemuImg

_RAW = "raw"
# Our boards have no System Management Mode, and enrolled keys are of no use to us.
_UNSUITABLE = {"secure-boot", "requires-smm", "enrolled-keys"}


@dataclass(frozen=True, kw_only=True)
class FirmwareFiles:
    """UEFI's code, which QEMU maps read-only, and a template for the UEFI variables.

    Each machine gets a copy of the template, which is always raw. The formats have the names that QEMU gives them.
    """

    code: Path
    variables: Path
    code_format: str = _RAW
    variables_format: str = _RAW


def firmware_directories(binary: Path, host: Host, config_home: Path) -> tuple[Path, ...]:
    """List the directories of firmware descriptors. A file overrides files of the same name in earlier directories."""
    own = [parent / "share/qemu/firmware" for parent in _prefixes(binary)]
    shared = [Path(directory) for directory in host.os.traits.firmware_directories]
    directories = [*shared, *own, Path("/etc/qemu/firmware"), config_home / "qemu/firmware"]
    return tuple(dict.fromkeys(directories))


def _prefixes(binary: Path) -> list[Path]:
    """Return the installation prefixes to which the QEMU binary may belong.

    Homebrew's binary is a link into a prefix whose name has a version. That prefix and the link's own are returned.
    """
    return [path.parent.parent for path in (binary.resolve(), binary)]


def read_descriptors(directories: Iterable[Path]) -> list[dict[str, Any]]:
    """Return firmware descriptors in the order in which to try them. Files that are not JSON objects are left out."""
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
    except ValueError:  # an empty file disables the descriptors of its name
        return None
    return document if isinstance(document, dict) else None


def described_files(descriptor: Mapping[str, Any], board: Board) -> FirmwareFiles | None:
    """Return the files that a descriptor names, or None if the files are not UEFI firmware for this board."""
    try:
        mapping = descriptor["mapping"]
        suitable = (
            "uefi" in descriptor["interface-types"]
            and mapping["device"] == "flash"
            and mapping.get("mode", "split") == "split"
            and _UNSUITABLE.isdisjoint(descriptor["features"])
            and any(_matches_board(target, board) for target in descriptor["targets"])
        )
        if not suitable:
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


def _matches_board(target: Mapping[str, Any], board: Board) -> bool:
    """Return whether a firmware descriptor is for this board.

    The machine names in the descriptor's `target` have versions, the board's machine name has none.
    """
    kind = board.machine.partition(",")[0]
    versions = (kind, f"{kind}-0.0")
    return target["architecture"] == board.target and any(
        fnmatchcase(version, pattern) for pattern in target["machines"] for version in versions
    )


def find_firmware(arch: Arch, host: Host, *, binary: str, config_home: Path) -> FirmwareFiles | None:
    """Return the first firmware on this host for the board of `arch`, or None if the board needs no firmware.

    Raises:
        MachineError: this host has no firmware for the board.
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
    installed = (
        FirmwareFiles(code=Path(code), variables=Path(variables))
        for code, variables in (*shipped, *board.firmware.files)
    )
    for files in (*described, *installed):
        if files and files.code.exists() and files.variables.exists():
            return files
    raise MachineError(
        f"no UEFI firmware for {arch} guests on this host",
        hint=host.install_hint(board.firmware.packages, f"EDK II for QEMU's machine {board.machine.partition(',')[0]}"),
        page=Page.DOCTOR,
    )


def ensure_variables(firmware: FirmwareFiles, path: Path) -> None:
    """Make a machine's own file of UEFI variables at `path` from the template, unless the machine has one already.

    Raises:
        MachineError: the template cannot be read, or the disk is full.
    """
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        try:
            # Raw, so that a guest cannot make QEMU take its variables for another image format.
            QemuImg().to_raw(firmware.variables, fresh, source_format=firmware.variables_format)
            fresh.chmod(FILE_PRIVATE)
            fsync_file(fresh)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
