"""Return a machine to a snapshot, and finish interrupted restores.

The record says from the first change to the last that the machine is being restored. A restore that was interrupted is
done once more by the next command that uses the machine.
"""

from __future__ import annotations

from dataclasses import replace

from machine import lock
from machine.errors import MachineError, Page
from machine.model.record import MachineRecord
from machine.model.snapshot import Snapshot, as_of
from machine.ops.shared.context import Context
from machine.ops.shared.renaming import LOCK_S, finish_rename
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store import records, snapshots
from machine.store.paths import MachinePaths
from machine.store.suspension import commit_suspension, drop_suspension, load_suspension, mark_of


def finish_interrupted(name: str, context: Context, report: Reporter) -> MachineRecord:
    """Return the machine's record. If a rename or a restore of the machine was interrupted, finish it first.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the record or the snapshot is damaged, or the machine cannot be changed.
    """
    record = finish_rename(name, context, report)
    if record.pending.restoring is None:
        return record
    paths = context.roots.machine(name)
    with lock.held(paths.lock, timeout_s=LOCK_S) as free:
        snapshot = records.load(context.roots, name).pending.restoring
        if free and snapshot is not None:
            report.notice(f'Finishing the restore of "{name}" to the snapshot "{snapshot}"')
            finish_restore(name, snapshot, paths)
    return records.load(context.roots, name)


def check_disk(name: str, paths: MachinePaths) -> None:
    """Check that the machine has a disk.

    Raises:
        MachineError: the disk is missing.
    """
    if not paths.disk.exists():
        raise MachineError(
            f"the disk of {name} is missing: {paths.disk}",
            hint=f"restore it from a backup, or remove the machine: machine rm {name}",
            page=Page.FILES,
        )


def load_complete(name: str, snapshot: str, paths: MachinePaths) -> Snapshot:
    """Load a snapshot, and check that the machine's disk has it.

    Raises:
        NotFoundError: there is no such snapshot.
        MachineError: the snapshot is damaged, or the disk is missing.
    """
    chosen = snapshots.load(name, paths, snapshot)
    check_disk(name, paths)
    if chosen.tag not in QemuImg().snapshot_tags(paths.disk):
        raise MachineError(
            f'the snapshot "{snapshot}" of "{name}" is damaged: the machine\'s disk does not have it any more',
            hint=f"remove it with: machine snapshot rm {name} {snapshot}",
        )
    return chosen


def begin_restore(name: str, snapshot: str, paths: MachinePaths) -> None:
    """Return the machine to a snapshot, and lose its present state. The caller must hold the machine's lock.

    Raises:
        MachineError: the snapshot is damaged, or the machine cannot be changed.
    """
    records.edit(paths, lambda record: replace(record, pending=replace(record.pending, restoring=snapshot)))
    finish_restore(name, snapshot, paths)


def finish_restore(name: str, snapshot: str, paths: MachinePaths) -> None:
    """Return the machine to a snapshot that its record names, and then say in the record that this is done.

    If the function is interrupted, it can be called again. The caller must hold the machine's lock.

    Raises:
        MachineError: the snapshot is damaged, or the machine cannot be changed.
    """
    kept, files = snapshots.load(name, paths, snapshot), snapshots.folder(paths, snapshot)
    suspension = load_suspension(files)
    drop_suspension(paths)
    QemuImg().apply_snapshot(paths.disk, kept.tag)
    snapshots.copy_files(files, paths)
    if suspension:
        snapshots.copy_memory(files.memory, paths.memory_in_work)
        commit_suspension(paths, replace(suspension, disk=mark_of(paths.disk)))
    records.edit(paths, lambda present: as_of(kept.record, present))
