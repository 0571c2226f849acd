"""Find out a machine's state from its locks and sockets."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from machine import lock
from machine.model.state import ORPHANED, STOPPED, SUSPENDED, UNRESPONSIVE, MachineState, State
from machine.store.paths import MachinePaths, is_suspended

# A supervisor binds its socket well within this time. If there is no socket afterwards, it was removed.
_LISTENS_AFTER_S = 15.0


def machine_state(paths: MachinePaths) -> MachineState:
    """Return the machine's state. Probe its lock once, and if the lock is held, ask the supervisor once."""
    if not lock.is_held(paths.lock):
        return _resting_state(paths)
    from machine import control, sockets  # `ls` of stopped machines does not need them

    state = control.query_state(paths.control_socket)
    if state:
        return state
    if lock.is_held(paths.supervisor_lock):
        if sockets.listens(paths.control_socket) or _age_s(paths.supervisor_lock) > _LISTENS_AFTER_S:
            return UNRESPONSIVE
        return MachineState(state=State.STARTING, connected=False)
    if lock.holder_pid(paths.lock):
        return ORPHANED
    return _resting_state(paths)  # a command that changes a stopped machine holds its lock for a moment


def _resting_state(paths: MachinePaths) -> MachineState:
    """Return the state of a machine without QEMU, with what the process says that waits for its clients."""
    state = SUSPENDED if is_suspended(paths) else STOPPED
    if not lock.is_held(paths.waiting_lock):
        return state
    from machine import control

    told = control.query_state(paths.waiting_socket)
    return replace(state, reason=told.reason) if told else state


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
