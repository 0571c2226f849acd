"""Finding out what a machine is doing, from its locks and sockets."""

from __future__ import annotations

import time
from pathlib import Path

from machine import lock
from machine.model.state import ORPHANED, STOPPED, UNRESPONSIVE, MachineState, State
from machine.store.paths import MachinePaths

# A supervisor binds its socket well within this time; one without a socket after it has lost the socket.
_LISTENS_AFTER_S = 15.0


def machine_state(paths: MachinePaths) -> MachineState:
    """Return what the machine is doing.

    This costs one non-blocking probe where nothing runs, and one question to the supervisor where something does.
    """
    if not lock.is_held(paths.lock):
        return STOPPED
    from machine import control, sockets  # not for `ls` of machines that are stopped

    state = control.query_state(paths.control_socket)
    if state:
        return state
    if lock.is_held(paths.supervisor_lock):
        if sockets.listens(paths.control_socket) or _age_s(paths.supervisor_lock) > _LISTENS_AFTER_S:
            return UNRESPONSIVE
        return MachineState(state=State.STARTING)
    if lock.holder_pid(paths.lock):
        return ORPHANED
    return STOPPED  # a command that changes the machine holds the lock for a moment


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
