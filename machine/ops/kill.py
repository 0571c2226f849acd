"""`machine kill`: end a machine at once."""

from __future__ import annotations

from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.machine_events import send_event
from machine.ops.shared.shutdown import end_machine
from machine.podman.machine_events import Event
from machine.report import Reporter
from machine.store.names import check_exists
from machine.store.paths import is_suspended


def kill(name: str, context: Context, report: Reporter) -> State:
    """Turn the machine off at once, and return its state. A damaged record does not prevent this.

    A stopped machine stays as it is. A suspended machine keeps its memory, but no client can wake it any more.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: some process of the machine cannot be ended.
    """
    check_exists(context.roots, name)
    end_machine(name, context, report, at_once=True)
    send_event(Event.STOP, name, context)
    return State.SUSPENDED if is_suspended(context.roots.machine(name)) else State.STOPPED
