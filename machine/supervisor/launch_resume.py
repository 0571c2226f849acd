"""Check that a saved memory can be loaded, before QEMU is started to load it."""

from __future__ import annotations

from collections.abc import Sequence

from machine.errors import MachineError, Page
from machine.folders.transports import MountedFolder
from machine.model.hardware import Suspension
from machine.model.host import Accelerator
from machine.qemu.accelerator import Acceleration
from machine.store.paths import MachinePaths
from machine.store.suspension import fits_disk, is_memory_whole, load_suspension


def usable_suspension(name: str, paths: MachinePaths, acceleration: Acceleration) -> Suspension | None:
    """Return the facts about the saved memory of a suspended machine, or None if the machine is not suspended.

    Raises:
        MachineError: the memory cannot be loaded on this host as it is now, or does not fit the disk any more.
    """
    try:
        suspension = load_suspension(paths)
        if suspension is None:
            return None
        _check_accelerator(suspension, acceleration)
        _check_cpu(suspension, acceleration)
        _check_memory(suspension, paths)
        _check_disk(suspension, paths)
    except MachineError as error:
        hint = f"{error.hint}; {give_up_hint(name)}" if error.hint else give_up_hint(name)
        raise MachineError(f'unable to resume "{name}": {error.message}', hint=hint, page=Page.RESUME) from error
    return suspension


def check_kept_folders(name: str, folders: Sequence[MountedFolder], suspension: Suspension) -> None:
    """Check that the guest finds the folders that it has mounted, if its memory was saved so.

    Raises:
        MachineError: it would not find one of them.
    """
    if not suspension.hardware.keeps_folders:
        return
    for each in folders:
        if not each.can_stay_mounted:
            reason = each.problem or "this host's virtiofsd cannot take it over now"
            raise MachineError(
                f'unable to resume "{name}": {each.folder.target} was in use when its memory was saved, and {reason}',
                hint=give_up_hint(name),
                page=Page.RESUME,
            )


def give_up_hint(name: str) -> str:
    """Return the hint that says how a machine is started whose saved memory cannot be loaded."""
    return f"to give the memory up, which is like a power cut for the guest: machine start --cold {name}"


def load_failure_hint(name: str, suspension: Suspension) -> str:
    """Return the hint for a memory that QEMU has not accepted."""
    return f"QEMU {suspension.qemu} has saved the memory, and a QEMU of that version can load it; {give_up_hint(name)}"


def _check_accelerator(suspension: Suspension, acceleration: Acceleration) -> None:
    then = suspension.hardware.accelerator
    if then in (Accelerator.TCG, acceleration.accelerator):
        return
    reason = f": {acceleration.obstacle.reason}" if acceleration.obstacle else ""
    raise MachineError(f"its memory was saved under {then}, which cannot be used now{reason}")


def _check_cpu(suspension: Suspension, acceleration: Acceleration) -> None:
    """Check that an accelerated guest finds the CPU on which it ran, as far as both are known.

    Raises:
        MachineError: this host has another CPU.
    """
    then, now = suspension.hardware.host_cpu, acceleration.host_cpu
    if then is not None and now is not None and then != now:
        raise MachineError(
            f"its memory was saved on another CPU ({then}) than this host has ({now})",
            hint="a host with that CPU can load it",
        )


def _check_memory(suspension: Suspension, paths: MachinePaths) -> None:
    """Check that the memory is this machine's, because QEMU would load that of another machine of the same size.

    Raises:
        MachineError: it is damaged, or another machine's.
    """
    if not is_memory_whole(paths, suspension):
        raise MachineError("its saved memory is damaged, or another machine's", hint=f"bring back {paths.memory}")


def _check_disk(suspension: Suspension, paths: MachinePaths) -> None:
    """Check that nothing has written to the disk since, because the guest would destroy its file system.

    Raises:
        MachineError: the disk is missing, or something has written to it.
    """
    if not fits_disk(paths, suspension):
        raise MachineError(
            "something has written to its disk since its memory was saved, so the two do not fit together"
        )
