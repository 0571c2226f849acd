"""`machine stop`: shut a machine down."""

from __future__ import annotations

from machine.ops.shared.context import Context
from machine.ops.shared.events import send_event
from machine.ops.shared.shutdown import end_machine
from machine.podman.events import Event
from machine.qemu.shutdown import Ending
from machine.report import Reporter
from machine.store import records


def stop(name: str, context: Context, report: Reporter) -> Ending:
    """Stop the machine and say how that went; a stopped one is stopped already.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: it survives everything.
    """
    records.load(context.roots, name)
    ending = end_machine(context.roots.machine(name), report, at_once=False)
    send_event(Event.STOP, name, context)
    return ending
