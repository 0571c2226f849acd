"""`machine ignition`: read the Ignition config of a machine."""

from __future__ import annotations

from machine.errors import MachineError, reason_of
from machine.model.config import Provisioning
from machine.model.provider import Capability
from machine.model.record import MachineRecord
from machine.ops.shared.capability import require
from machine.ops.shared.context import Context
from machine.store import records


def ignition(name: str, context: Context) -> str:
    """Return the machine's Ignition config, which contains the guest's private host key.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine has no Ignition config, or the config cannot be read.
    """
    require(name, Capability.IGNITION, context)
    found = records.find(context.roots, name)
    if isinstance(found, MachineRecord) and found.config.provisioning is not Provisioning.IGNITION:
        raise MachineError(
            f"{name} is provisioned by {found.config.provisioning}, which does not use an Ignition config",
            hint=f"see what the machine was made with: machine export {name}",
        )
    path = context.roots.machine(name).ignition
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MachineError(f"cannot read {path}: {reason_of(error)}") from error
