"""`machine status`: find out the state of a machine."""

from __future__ import annotations

from machine.model.state import MachineState
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.store import records


def status(name: str, context: Context) -> MachineState:
    """Return the machine's state.

    Raises:
        NotFoundError: there is no such machine.
    """
    records.find(context.roots, name)
    return machine_state(context.roots.machine(name))
