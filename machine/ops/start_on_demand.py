"""`machine start --on-demand`: wait for clients of a machine that is asleep, and start it for the first of them."""

from __future__ import annotations

from machine.model.provider import Capability
from machine.ops.shared.capability import require
from machine.ops.shared.context import Context
from machine.ops.shared.restoring import finish_interrupted
from machine.ops.shared.waiting import is_waiting, start_waiting
from machine.ops.start import check_startable
from machine.report import SilentReporter


def start_on_demand(name: str, context: Context) -> None:
    """Wait for clients of the machine, in a process of its own. If a process does this already, change nothing.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is running, or its record is damaged.
        DeadlineError: the process does not listen.
    """
    require(name, Capability.ON_DEMAND, context)
    check_startable(name, context)
    finish_interrupted(name, context, SilentReporter())
    if not is_waiting(context.roots.machine(name)):
        start_waiting(name, context)
