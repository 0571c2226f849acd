"""Save files of a machine before it is removed. The files get new names in the directory for saved files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors, fsync_directory, fsync_file
from machine.qemu.img import QemuImg
from machine.store.paths import MachinePaths, Roots, make_private


def save_disk(name: str, paths: MachinePaths, roots: Roots) -> Path:
    """Save a machine's disk as a complete image, which does not need the base image, and return the new file's path.

    Raises:
        MachineError: the disk is missing or damaged, or the file system is full.
    """
    with _new_file(roots, name, ".qcow2") as (draft, target):
        QemuImg().flatten(paths.disk, draft)
    return target


def save_ignition(name: str, paths: MachinePaths, roots: Roots) -> Path:
    """Save a machine's Ignition config, which contains the guest's private host key, and return the new file's path.

    Raises:
        MachineError: the machine has no Ignition config, the config cannot be read, or the file system is full.
    """
    if not paths.ignition.exists():
        raise MachineError(f'"{name}" has no Ignition config', hint="leave out --save-ignition")
    with _new_file(roots, name, ".ign") as (draft, target):
        draft.write_bytes(paths.ignition.read_bytes())
    return target


@contextlib.contextmanager
def _new_file(roots: Roots, name: str, suffix: str) -> Iterator[tuple[Path, Path]]:
    """Yield two paths: a temporary file, which the block writes, and the name that the file gets after the block."""
    directory = make_private(roots.saved)
    names = (directory / f"{name}{f'-{number}' if number else ''}{suffix}" for number in count())
    target = next(path for path in names if not path.exists())
    draft = directory / f".{target.name}.{os.getpid()}.tmp"
    try:
        with disk_errors(draft):
            draft.touch(mode=FILE_PRIVATE)
            yield draft, target
            draft.chmod(FILE_PRIVATE)
            fsync_file(draft)
            draft.rename(target)
            fsync_directory(directory)
    finally:
        draft.unlink(missing_ok=True)
