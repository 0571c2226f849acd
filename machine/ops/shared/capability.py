"""Check that a machine's provider can do what a command asks of it."""

from __future__ import annotations

from machine.model.provider import Capability, check_capability
from machine.model.record import MachineRecord
from machine.ops.shared.context import Context
from machine.store import records


def require(name: str, capability: Capability, context: Context) -> None:
    """Check that the machine can be asked for this. A machine whose record is damaged is assumed to be able to.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: the machine's provider cannot do this.
    """
    found = records.find(context.roots, name)
    if isinstance(found, MachineRecord):
        check_capability(name, found.config.provider, capability)
