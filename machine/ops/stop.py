"""`machine stop`: shut a machine down."""

from __future__ import annotations

from machine.ops.shared.context import Context
from machine.ops.shared.machine_events import send_event
from machine.ops.shared.shutdown import end_machine
from machine.ops.wake import wake
from machine.podman.machine_events import Event
from machine.qemu.shutdown import Ending
from machine.report import Reporter
from machine.store.names import check_exists


def stop(name: str, context: Context, report: Reporter) -> Ending:
    """If the machine is running, stop it. Return how it ended. A damaged record does not prevent this.

    A suspended machine is resumed first, so that its guest can shut down.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine cannot be ended.
    """
    check_exists(context.roots, name)
    wake(name, context, report)
    ending = end_machine(name, context, report, at_once=False)
    if ending is Ending.SUSPENDED:  # by another command, meanwhile
        wake(name, context, report)
        ending = end_machine(name, context, report, at_once=False)
    send_event(Event.STOP, name, context)
    return ending
