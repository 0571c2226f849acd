"""Resume a suspended machine, before a command that needs its guest."""

from __future__ import annotations

from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.state import machine_state
from machine.report import Reporter


def wake(name: str, context: Context, report: Reporter, interrupt: Interrupt | None = None) -> None:
    """Resume the machine if it is suspended. A machine in another state, or one that does not exist, stays as it is.

    Raises:
        MachineError: the machine cannot be resumed.
    """
    if machine_state(context.roots.machine(name)).state is not State.SUSPENDED:
        return
    from machine.ops.start import start  # slow to import, and rarely needed

    start(name, context, report, interrupt)
