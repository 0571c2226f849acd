"""Save what QEMU was started with, and what a resume must know about a saved memory, in files of the machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from machine.errors import MachineError
from machine.files import disk_errors, fsync_directory, write_atomic
from machine.model.hardware import DiskMark, Hardware, Suspension
from machine.model.host import Accelerator
from machine.store.fields import Fields
from machine.store.paths import MachinePaths, is_suspended

_PARTS = 256
_PART_BYTES = 4096


def save_hardware(path: Path, hardware: Hardware) -> None:
    """Write the hardware of the QEMU that is about to start.

    Raises:
        DiskError: the file cannot be written.
    """
    write_atomic(path, json.dumps(asdict(hardware)))


def load_hardware(path: Path) -> Hardware | None:
    """Return the hardware of the running QEMU. Return None if an older program has started this QEMU."""
    try:
        return _hardware(Fields(json.loads(path.read_bytes())))
    except (OSError, ValueError):
        return None


def load_suspension(paths: MachinePaths) -> Suspension | None:
    """Return the facts about the machine's saved memory, or None if the machine has none.

    Raises:
        MachineError: there is a saved memory, but the facts about it cannot be read.
    """
    if not is_suspended(paths):
        return None
    try:
        fields = Fields(json.loads(paths.suspension.read_bytes()))
        disk = fields.optional_part("disk")
        return Suspension(
            hardware=_hardware(fields.part("hardware")),
            qemu=fields.text("qemu"),
            disk=None if disk is None else _disk_mark(disk),
            suspended=fields.moment("suspended"),
            memory=fields.optional_text("memory") if "memory" in fields else None,
        )
    except (OSError, ValueError) as error:
        raise MachineError(f"{paths.suspension} is damaged, and without it the saved memory cannot be used") from error


def begin_suspension(paths: MachinePaths, suspension: Suspension) -> None:
    """Note that the guest stands still from now on until `commit_suspension` or `drop_suspension`.

    If the supervisor is killed meanwhile, the next one lets the guest run on.

    Raises:
        DiskError: the file cannot be written.
    """
    _save(paths, suspension)


def commit_suspension(paths: MachinePaths, suspension: Suspension) -> None:
    """Make the machine suspended, after its memory was written to `memory_in_work` whole.

    Raises:
        DiskError: a file cannot be written.
    """
    with disk_errors(paths.memory):
        mark = suspension.memory or _memory_mark(paths.memory_in_work)
    _save(paths, replace(suspension, memory=mark))
    with disk_errors(paths.memory):
        paths.memory_in_work.replace(paths.memory)
        fsync_directory(paths.directory)


def stands_still(paths: MachinePaths) -> bool:
    """Return whether the guest's memory was being saved or loaded when this was last noted."""
    return paths.suspension.exists()


def drop_memory(paths: MachinePaths) -> None:
    """Remove the saved memory, complete or not, before the guest runs. This is on disk when the function returns.

    Raises:
        DiskError: the files cannot be removed.
    """
    with disk_errors(paths.memory):
        paths.memory.unlink(missing_ok=True)
        paths.memory_in_work.unlink(missing_ok=True)
        fsync_directory(paths.directory)


def drop_suspension(paths: MachinePaths) -> None:
    """Remove the saved memory and the facts about it. This is on disk when the function returns.

    Raises:
        DiskError: the files cannot be removed.
    """
    drop_memory(paths)
    with disk_errors(paths.suspension):
        paths.suspension.unlink(missing_ok=True)
        fsync_directory(paths.directory)


def fits_disk(paths: MachinePaths, suspension: Suspension) -> bool:
    """Return whether nothing has written to the machine's disk since its memory was saved.

    Raises:
        MachineError: the disk is missing.
    """
    try:
        present = mark_of(paths.disk)
    except OSError as error:
        raise MachineError(f"its disk is missing: {paths.disk}") from error
    return suspension.disk in (None, present)


def is_memory_whole(paths: MachinePaths, suspension: Suspension) -> bool:
    """Return whether the saved memory is the one that was saved. An older program did not note that.

    Raises:
        DiskError: the memory cannot be read.
    """
    with disk_errors(paths.memory):
        return suspension.memory in (None, _memory_mark(paths.memory))


@contextlib.contextmanager
def changing_disk_file(paths: MachinePaths) -> Iterator[None]:
    """Keep the saved memory of a suspended machine usable while the block changes the machine's disk file.

    The block must not change what the guest finds on the disk. If this program is killed in the block, the memory stays
    usable.

    Raises:
        MachineError: the facts about the memory cannot be read or written, or the disk is missing.
    """
    suspension = load_suspension(paths)
    if suspension is None or not fits_disk(paths, suspension):
        yield
        return
    _save(paths, replace(suspension, disk=None))
    try:
        yield
    finally:
        _save(paths, replace(suspension, disk=mark_of(paths.disk)))


def mark_of(disk: Path) -> DiskMark:
    """Return the mark of a disk file as it is now.

    Raises:
        OSError: there is no such file.
    """
    facts = disk.stat()
    return DiskMark(size_bytes=facts.st_size, modified_ns=facts.st_mtime_ns)


def _memory_mark(path: Path) -> str:
    """Return the size of a saved memory and a hash of parts from all over it, as reading the whole would take seconds.

    The parts at its ends would not do: they describe the hardware, which is the same for many machines.
    """
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = path.stat().st_size
        for part in range(_PARTS):
            file.seek(size * part // _PARTS)
            digest.update(file.read(_PART_BYTES))
    return f"{size}:{digest.hexdigest()}"


def _save(paths: MachinePaths, suspension: Suspension) -> None:
    document = asdict(suspension) | {"suspended": suspension.suspended.isoformat()}
    write_atomic(paths.suspension, json.dumps(document))


def _disk_mark(fields: Fields) -> DiskMark:
    return DiskMark(
        size_bytes=fields.number("size_bytes", minimum=0), modified_ns=fields.number("modified_ns", maximum=2**63)
    )


def _hardware(fields: Fields) -> Hardware:
    return Hardware(
        machine_type=fields.optional_text("machine_type"),
        accelerator=fields.member("accelerator", Accelerator),
        cpu=fields.text("cpu"),
        # Older programs did not write it.
        host_cpu=fields.optional_text("host_cpu") if "host_cpu" in fields else None,
        first_boot=fields.flag("first_boot"),
        rekey=fields.flag("rekey"),
        folder_slots=fields.number("folder_slots", minimum=0),
        shared_memory=fields.flag("shared_memory"),
        keeps_folders=fields.flag("keeps_folders") if "keeps_folders" in fields else False,
    )
