"""`machine restart`: stop a machine and start it again."""

from __future__ import annotations

from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.shutdown import await_supervisors_end
from machine.ops.start import Started, start
from machine.ops.stop import stop
from machine.report import Reporter


def restart(name: str, context: Context, report: Reporter, interrupt: Interrupt | None = None) -> Started:
    """Stop the machine, and start it again. If the machine is stopped already, just start it.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine cannot be stopped, or does not come up again.
    """
    ending = stop(name, context, report)
    if ending.notice:
        report.notice(ending.notice)
    await_supervisors_end(name, context)
    return start(name, context, report, interrupt)
