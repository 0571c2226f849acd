"""UEFI firmware for boards that need it: by QEMU's own descriptors, else from the places where distributions keep it.

The descriptors and the rules for them are those of QEMU's docs/interop/firmware.json.
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
    """The code, mapped read-only, and the template of the variables that each machine has its own copy of.

    The formats are QEMU's names of them; a machine's own copy is always raw.
    """

    code: Path
    variables: Path
    code_format: str = _RAW
    variables_format: str = _RAW


def firmware_directories(binary: Path, host: Host, config_home: Path) -> tuple[Path, ...]:
    """Where descriptors are, from the general to the special: a file there takes the place of its namesakes."""
    own = [parent / "share/qemu/firmware" for parent in _prefixes(binary)]
    shared = [Path(directory) for directory in host.os.traits.firmware_directories]
    several = [*shared, *own, Path("/etc/qemu/firmware"), config_home / "qemu/firmware"]
    return tuple(dict.fromkeys(several))


def _prefixes(binary: Path) -> list[Path]:
    """Where the binary was installed to: Homebrew links it from its one prefix into another, which changes."""
    return [path.parent.parent for path in (binary.resolve(), binary)]


def read_descriptors(directories: Iterable[Path]) -> list[dict[str, Any]]:
    """The descriptors in the order in which they are to be tried; what is no JSON object is none."""
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
    except ValueError:  # an empty one hides its namesake
        return None
    return document if isinstance(document, dict) else None


def described_files(descriptor: Mapping[str, Any], board: Board) -> FirmwareFiles | None:
    """The files of a descriptor of UEFI for this board; None where it is of something else."""
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
    """A target names machines with their version, which ours goes without."""
    kind = board.machine.partition(",")[0]
    versions = (kind, f"{kind}-0.0")
    return target["architecture"] == board.target and any(
        fnmatchcase(version, pattern) for pattern in target["machines"] for version in versions
    )


def find_firmware(arch: Arch, host: Host, *, binary: str, config_home: Path) -> FirmwareFiles | None:
    """The first firmware for the board that is on this host; None where the board has its own.

    Raises:
        MachineError: there is none.
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
    """Give a machine its own variables, once.

    Raises:
        MachineError: the template cannot be read or the disk is full.
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
