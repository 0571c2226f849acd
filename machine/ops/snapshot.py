"""`machine snapshot`: keep states of a machine, list them, return to them, and remove them.

The disk's content stays in the disk file, as a snapshot of qcow2, which is quick to make and shares all that has not
changed. A running machine is suspended, and resumed when its snapshot is complete.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from machine import lock
from machine.errors import BadInputError, DiskError, MachineError, Page
from machine.model.provider import Capability
from machine.model.snapshot import check_snapshot_name, checked_comment, default_name, name_before_restore
from machine.model.state import State
from machine.model.units import bytes_size
from machine.ops.shared.capability import require
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.restoring import begin_restore, check_disk, finish_interrupted, load_complete
from machine.ops.shared.state import machine_state
from machine.ops.shared.waiting import end_waiting, start_waiting
from machine.ops.suspend import suspend
from machine.ops.wake import wake
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store import records, snapshots
from machine.store.names import check_exists, snapshot_names
from machine.store.paths import MachinePaths, is_suspended
from machine.store.snapshots import KnownSnapshots
from machine.store.suspension import changing_disk_file, fits_disk, load_suspension

log = logging.getLogger(__name__)

_LOCK_S = 1.0
# What a snapshot adds to the disk file at once, and the small files beside it.
_NEEDED_BYTES = 32 * 1024**2


def create_snapshot(
    name: str,
    snapshot: str | None,
    comment: str | None,
    context: Context,
    report: Reporter,
    interrupt: Interrupt | None = None,
) -> str:
    """Keep the present state of a machine as a snapshot, and return the snapshot's name.

    A running machine is suspended meanwhile, because its memory belongs to its state. Clients that come then wait.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: the name or the comment is invalid, or the name is taken.
        MachineError: the guest has had no first boot, the machine cannot be suspended, or the disk is full.
    """
    require(name, Capability.SNAPSHOT, context)
    comment = checked_comment(comment)
    record = finish_interrupted(name, context, report)
    paths = context.roots.machine(name)
    if snapshot is not None:
        _check_new(name, paths, snapshot)
    if not record.guest.provisioned:
        raise MachineError(
            f'unable to take a snapshot of "{name}": its guest has not completed its first boot',
            hint=f"start it once: machine start {name}",
        )
    _check_space(paths)
    with lock.held(paths.snapshot_lock, timeout_s=_LOCK_S) as free:
        if not free:
            raise _is_busy(name)
        if machine_state(paths).state in (State.STOPPED, State.SUSPENDED):
            return _take(name, snapshot, comment, paths)
        suspend(name, context, report)
        try:
            return _take(name, snapshot, comment, paths)
        finally:
            wake(name, context, report, interrupt)


def _take(name: str, snapshot: str | None, comment: str | None, paths: MachinePaths) -> str:
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if not free:
            raise _is_busy(name)
        _sweep(name, paths)
        chosen = default_name(snapshot_names(paths)) if snapshot is None else _check_new(name, paths, snapshot)
        way_out = f"to give the memory up, which is like a power cut for the guest: machine start --cold {name}"
        _keep(name, chosen, comment, paths, way_out)
    return chosen


def _keep(name: str, chosen: str, comment: str | None, paths: MachinePaths, way_out: str) -> None:
    """Keep the present state of a machine whose lock the caller holds."""
    check_disk(name, paths)
    try:
        suspension = load_suspension(paths)
        if suspension and not fits_disk(paths, suspension):
            raise MachineError("something has written to its disk since its memory was saved")
    except MachineError as error:
        raise MachineError(
            f'unable to take a snapshot of "{name}": {error.message}', hint=way_out, page=Page.RESUME
        ) from error
    tag, record = snapshots.new_tag(), records.load_file(paths.record)
    with snapshots.draft(paths, chosen, tag=tag, comment=comment, record=record), changing_disk_file(paths):
        QemuImg().take_snapshot(paths.disk, tag)


def list_snapshots(name: str, context: Context) -> KnownSnapshots:
    """Return the machine's snapshots.

    Raises:
        NotFoundError: there is no such machine.
    """
    check_exists(context.roots, name)
    return snapshots.load_all(name, context.roots.machine(name))


def check_restorable(name: str, snapshot: str, context: Context) -> None:
    """Check that the machine can return to the snapshot now.

    Raises:
        NotFoundError: there is no such machine or snapshot.
        MachineError: the machine is running, or the snapshot is damaged.
    """
    require(name, Capability.SNAPSHOT, context)
    check_exists(context.roots, name)
    paths = context.roots.machine(name)
    load_complete(name, snapshot, paths)
    if machine_state(paths).state not in (State.STOPPED, State.SUSPENDED):
        raise _is_running(name)


def restore_snapshot(name: str, snapshot: str, context: Context, report: Reporter, *, keep: bool) -> State:
    """Return a machine to a snapshot, and return its new state. With `keep`, its present state becomes a snapshot, too.

    Raises:
        NotFoundError: there is no such machine or snapshot.
        MachineError: the machine is running, the snapshot is damaged, or the disk is full.
        DeadlineError: the machine is restored, but no process waits for its clients.
    """
    finish_interrupted(name, context, report)
    paths = context.roots.machine(name)
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if not free:
            raise _is_running(name)
        chosen = load_complete(name, snapshot, paths)
        _check_space(paths)
        _sweep(name, paths)
        if keep:
            kept = name_before_restore(snapshot_names(paths))
            way_out = f"to lose the present state: machine snapshot restore --no-keep {name} {snapshot}"
            _keep(name, kept, f"Before the restore of {snapshot}", paths, way_out)
            report.notice(f'The state of "{name}" until now is kept as the snapshot "{kept}"')
        was_suspended, was_waiting = is_suspended(paths), end_waiting(paths)
        begin_restore(name, snapshot, paths)
    if chosen.state is State.SUSPENDED or (was_waiting and not was_suspended):
        start_waiting(name, context)
    return chosen.state


def remove_snapshots(name: str, chosen: Sequence[str], context: Context, report: Reporter) -> None:
    """Remove snapshots of a machine, which may be running.

    Raises:
        NotFoundError: there is no such machine, or it lacks one of the snapshots. None has been removed then.
        DiskError: a snapshot's files cannot be removed.
    """
    finish_interrupted(name, context, report)
    paths = context.roots.machine(name)
    for snapshot in chosen:
        snapshots.check_exists(name, paths, snapshot)
    tags = [tag for snapshot in chosen if (tag := _known_tag(name, snapshot, paths))]
    hidden = [snapshots.hide(paths, snapshot) for snapshot in chosen]
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if free:
            _sweep(name, paths)
            return
    for directory in hidden:
        shutil.rmtree(directory, ignore_errors=True)
    _delete_tags_of_running(paths, tags)


def _known_tag(name: str, snapshot: str, paths: MachinePaths) -> str | None:
    try:
        return snapshots.load(name, paths, snapshot).tag
    except MachineError as error:
        log.info("%s", error.line)
        return None


def _delete_tags_of_running(paths: MachinePaths, tags: list[str]) -> None:
    """Tell a running QEMU to delete snapshots from its disk. What it does not delete, `_sweep` deletes later."""
    from machine.qemu.live_disk import delete_snapshots  # QMP is slow to import

    try:
        asyncio.run(delete_snapshots(paths.qmp_tools_socket, tags))
    except MachineError as error:
        log.info("the snapshots stay in the disk for now: %s", error.line)


def _sweep(name: str, paths: MachinePaths) -> None:
    """Remove what is left of snapshots whose creation or removal was interrupted. The caller holds the machine's lock.

    A disk that cannot be changed now is swept another time.
    """
    snapshots.remove_leftovers(paths)
    image = QemuImg()
    try:
        unused = snapshots.unused_tags(name, paths, image.snapshot_tags(paths.disk))
        if unused:
            with changing_disk_file(paths):
                for tag in unused:
                    image.delete_snapshot(paths.disk, tag)
    except MachineError as error:
        log.info("what is left of old snapshots stays in the disk for now: %s", error.line)


def _check_new(name: str, paths: MachinePaths, snapshot: str) -> str:
    check_snapshot_name(snapshot)
    if snapshots.folder(paths, snapshot).directory.exists():
        raise BadInputError(f'"{name}" already has a snapshot "{snapshot}"')
    return snapshot


def _check_space(paths: MachinePaths) -> None:
    """Check that a snapshot fits on the disk. A suspend checks for itself that the memory does.

    Raises:
        DiskError: it does not fit.
    """
    needed = _NEEDED_BYTES + _size_of(paths.efi_vars)
    free = shutil.disk_usage(paths.directory).free
    if free < needed:
        raise DiskError(
            f"a snapshot takes up to {bytes_size(needed)} at first, but only {bytes_size(free)} are free on the disk "
            f"that holds {paths.directory}",
            hint="free some space and try again",
            page=Page.HOST_DISK_FULL,
        )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_busy(name: str) -> MachineError:
    return MachineError(f'unable to take a snapshot of "{name}": another command is using it', hint="try again later")


def _is_running(name: str) -> MachineError:
    return MachineError(f'unable to restore "{name}": it is running', hint=f"stop it first: machine stop {name}")
