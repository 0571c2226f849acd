"""`machine restart`: stop a machine and start it again."""

from __future__ import annotations

from machine import lock
from machine.deadline import Deadline
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.patience import stop_patience
from machine.ops.start import Started, start
from machine.ops.stop import stop
from machine.report import Reporter

# A supervisor that has adopted its guest notices within a second that the guest has ended, and then cleans up.
_SUPERVISOR_S = 30.0


def restart(name: str, context: Context, report: Reporter, interrupt: Interrupt | None = None) -> Started:
    """Stop the machine, and start it again. If the machine is stopped already, just start it.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine cannot be stopped, or does not come up again.
    """
    ending = stop(name, context, report)
    if ending.notice:
        report.notice(ending.notice)
    path = context.roots.machine(name).supervisor_lock
    Deadline.after(_SUPERVISOR_S * stop_patience(context), f"the supervisor of {name} to end").wait_until(
        lambda: not lock.is_held(path)
    )
    return start(name, context, report, interrupt)
