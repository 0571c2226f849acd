"""End the QEMU of a suspended machine whose supervisor was killed while it saved or loaded the memory."""

from __future__ import annotations

from machine import lock, sockets
from machine.deadline import Deadline
from machine.store.paths import MachinePaths, is_suspended

_LOCK_S = 1.0
_END_S = 30.0


def end_leftover_qemu(paths: MachinePaths) -> None:
    """End a QEMU without a supervisor if the machine has a saved memory, which the next start loads.

    Nothing is lost. The memory is whole, and the guest has not run since, because the memory is removed before that.

    Raises:
        DeadlineError: QEMU cannot be killed.
    """
    if not _is_left(paths):
        return
    with lock.held(paths.supervisor_lock, timeout_s=_LOCK_S) as is_alone:
        # Another command may have started the machine meanwhile.
        if is_alone and _is_left(paths):
            lock.end_holder(paths.lock, patience_s=_END_S)
            Deadline.after(_END_S, "QEMU to end").wait_until(lambda: _has_been_killed(paths))


def _has_been_killed(paths: MachinePaths) -> bool:
    """Kill a QEMU that listens, and return whether there is none any more.

    The supervisor may have been killed before it could note in the lock file which process QEMU is.
    """
    sockets.kill_listener(paths.qmp_tools_socket)
    return not lock.is_held(paths.lock)


def _is_left(paths: MachinePaths) -> bool:
    return is_suspended(paths) and lock.is_held(paths.lock)
