"""Make, convert and inspect disk images with qemu-img.

The format of an image is always stated. Otherwise, QEMU would guess it from data that the guest has written.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import runner
from machine.errors import MachineError, Page, ProgramError, reason_of
from machine.files import share_blocks
from machine.model.host import Installer
from machine.model.units import GIB

_HEADER = struct.Struct(">4s20xQ")
_MAGIC = b"QFI\xfb"
_QUICK_S = 60
_LONG_S = 1800

# The exit status of a check that found leaked clusters: wasted space, but no damage.
_LEAKS = 3


class QemuImg:
    """Runs qemu-img, which may take `patience` times as long as usual."""

    program = "qemu-img"

    def __init__(self, *, patience: int = 1) -> None:
        self._patience = patience

    def virtual_size(self, image: Path) -> int:
        """Return the size in bytes that the disk in a qcow2 image has for the guest.

        It is read from the image's header (docs/interop/qcow2.rst of QEMU), because qemu-img takes far longer.

        Raises:
            MachineError: the file cannot be read, or is not a qcow2 image.
        """
        try:
            with image.open("rb") as stream:
                magic, size = _HEADER.unpack(stream.read(_HEADER.size))
        except (OSError, struct.error) as error:
            raise MachineError(f"cannot read {image}: {reason_of(error)}") from error
        if magic != _MAGIC:
            raise MachineError(f"{image} is not a qcow2 image")
        return int(size)

    def check(self, image: Path) -> None:
        """Check a qcow2 image's structure.

        Raises:
            ProgramError: the image is damaged or truncated.
            MachineError: qemu-img is missing.
        """
        try:
            self._run(["check", "-q", "-f", "qcow2", image], timeout_s=_LONG_S)
        except ProgramError as error:
            if error.returncode != _LEAKS:
                raise

    def convert_raw(self, source: Path, target: Path) -> None:
        """Convert a raw image to qcow2."""
        self._run(["convert", "-f", "raw", "-O", "qcow2", source, target], timeout_s=_LONG_S)

    def to_raw(self, source: Path, target: Path, *, source_format: str) -> None:
        """Convert a disk image to a sparse raw image."""
        self._run(["convert", "-f", source_format, "-O", "raw", source, target], timeout_s=_LONG_S)

    def flatten(self, overlay: Path, target: Path) -> None:
        """Write the content of an overlay and its base to `target`, a qcow2 image that has no base."""
        self._run(("convert", "-f", "qcow2", "-O", "qcow2", overlay, target), timeout_s=_LONG_S)

    def create_overlay(self, overlay: Path, base: Path, size_gib: int) -> None:
        """Make an overlay of `size_gib` GiB on the image `base`, which must not be moved or changed afterwards."""
        words = ("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay, f"{size_gib}G")
        self._run(words, timeout_s=_QUICK_S)
        overlay.chmod(0o600)

    def copy(self, disk: Path, target: Path) -> None:
        """Copy a disk image without its snapshots. If the disk is an overlay, the copy has the same base.

        On some file systems, the copy and the disk share their blocks until one of them changes.

        Raises:
            MachineError: the disk is damaged, there is no space for the copy, or qemu-img is missing.
        """
        if share_blocks(disk, target):
            self._delete_all_snapshots(target)
        else:
            self._copy_content(disk, target)
        target.chmod(0o600)

    def copy_snapshot(self, disk: Path, tag: str, target: Path, size_gib: int) -> None:
        """Copy a disk image as it was at a snapshot, when it had `size_gib` GiB. An overlay's copy has the same base.

        Raises:
            MachineError: the disk is damaged or has no such snapshot, there is no space for the copy, or qemu-img is
                missing.
        """
        if share_blocks(disk, target):
            self.apply_snapshot(target, tag)
            self._delete_all_snapshots(target)
        else:
            self._copy_content(disk, target, "-l", f"snapshot.name={tag}")
            if self.virtual_size(target) > size_gib * GIB:  # that is the disk's present size
                self._run(("resize", "-q", "--shrink", "-f", "qcow2", target, f"{size_gib}G"), timeout_s=_QUICK_S)
        target.chmod(0o600)

    def take_snapshot(self, disk: Path, tag: str) -> None:
        """Keep the present content of a disk in its image file, under the name `tag`.

        Raises:
            MachineError: the disk is damaged or in use, there is no space, or qemu-img is missing. If qemu-img is
                killed, the image may have some wasted space.
        """
        self._run(("snapshot", "-q", "-c", tag, _named(disk)), timeout_s=_QUICK_S)

    def apply_snapshot(self, disk: Path, tag: str) -> None:
        """Give a disk the content and the size that it had at a snapshot. Calling this again does no harm.

        Raises:
            MachineError: the disk is damaged or in use, or has no such snapshot. Or there is no space, or qemu-img is
                missing.
        """
        self._run(("snapshot", "-q", "-a", tag, _named(disk)), timeout_s=_QUICK_S)

    def delete_snapshot(self, disk: Path, tag: str) -> None:
        """Delete a snapshot from a disk's image file, and give its space back to the host where the host can take it.

        Raises:
            MachineError: the disk is damaged or in use, has no such snapshot, or qemu-img is missing.
        """
        self._run(("snapshot", "-q", "-d", tag, _named(disk)), timeout_s=_LONG_S)

    def snapshot_tags(self, disk: Path) -> list[str]:
        """Return the names of the snapshots in a disk's image file.

        Raises:
            MachineError: the file is not a qcow2 image, or qemu-img is missing.
        """
        return [str(snapshot["name"]) for snapshot in self._info(disk).get("snapshots", ())]

    def create_empty(self, disk: Path, size_gib: int) -> None:
        """Make an empty disk without a base."""
        self._run(("create", "-q", "-f", "qcow2", disk, f"{size_gib}G"), timeout_s=_QUICK_S)
        disk.chmod(0o600)

    def grow(self, disk: Path, size_gib: int) -> None:
        """Make a disk larger. qemu-img refuses to make a disk smaller."""
        self._run(("resize", "-q", "-f", "qcow2", disk, f"{size_gib}G"), timeout_s=_QUICK_S)

    def backing_file(self, overlay: Path) -> Path | None:
        """Return the path of an overlay's base image, or None if the disk image has no base.

        Raises:
            MachineError: the file is not a qcow2 image, or qemu-img is missing.
        """
        name = self._info(overlay).get("backing-filename")
        return Path(name) if name else None

    def _copy_content(self, disk: Path, target: Path, *options: str) -> None:
        base = self.backing_file(disk)
        words = ("convert", "-f", "qcow2", "-O", "qcow2", *(("-B", base, "-F", "qcow2") if base else ()), *options)
        self._run((*words, disk, target), timeout_s=_LONG_S)

    def _delete_all_snapshots(self, disk: Path) -> None:
        for tag in self.snapshot_tags(disk):
            self.delete_snapshot(disk, tag)

    def _info(self, image: Path) -> dict[str, Any]:
        answer = self._run(["info", "--output=json", "-U", "-f", "qcow2", image], timeout_s=_QUICK_S)
        document: dict[str, Any] = json.loads(answer)
        return document

    def _run(self, words: Sequence[runner.Argument], *, timeout_s: float) -> str:
        path = runner.find_program(self.program)
        if path is None:
            raise MachineError(
                f"{self.program} is not installed on this host",
                hint=f"install qemu-img (Debian: {Installer.APT.command('qemu-utils')})",
                page=Page.DOCTOR,
            )
        return runner.run([path, *words], timeout_s=timeout_s * self._patience).stdout


def _named(disk: Path) -> str:
    """Return the name of a qcow2 image for a command of qemu-img that has no option for the format."""
    file = {"driver": "file", "filename": os.fspath(disk), "discard": "unmap"}
    return "json:" + json.dumps({"driver": "qcow2", "discard": "unmap", "file": file})
