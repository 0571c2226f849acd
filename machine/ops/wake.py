"""Resume a suspended machine, before a command that needs its guest."""

from __future__ import annotations

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.leftover_qemu import end_leftover_qemu
from machine.ops.shared.patience import start_patience
from machine.ops.shared.state import machine_state
from machine.report import Reporter
from machine.store.paths import MachinePaths
from machine.store.suspension import stands_still

_OTHER_START_S = 600.0
_POLL_S = 0.2


def wake(name: str, context: Context, report: Reporter, interrupt: Interrupt | None = None) -> None:
    """Resume the machine if it is suspended. A machine in another state, or one that does not exist, stays as it is.

    A guest also goes on that stands still because its supervisor was killed while it saved the memory.

    Raises:
        MachineError: the machine cannot be resumed.
    """
    paths = context.roots.machine(name)
    end_leftover_qemu(paths)
    state = machine_state(paths)
    if state.state is not State.SUSPENDED and not (state.is_orphaned and stands_still(paths)):
        return
    from machine.ops.start import start  # slow to import, and rarely needed

    try:
        start(name, context, report, interrupt)
    except MachineError:
        if machine_state(paths).state is not State.STARTING:
            raise
        _await_other_start(paths, start_patience(context))


def _await_other_start(paths: MachinePaths, patience: int) -> None:
    """Wait until another command or a client has woken the machine, or has failed to.

    Raises:
        DeadlineError: the other start takes too long.
    """
    deadline = Deadline.after(_OTHER_START_S * patience, "another command to start the machine")
    deadline.wait_until(lambda: machine_state(paths).state is not State.STARTING, interval_s=_POLL_S)
