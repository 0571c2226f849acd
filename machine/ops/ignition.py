"""`machine ignition`: the config that a guest gets."""

from __future__ import annotations

from machine.errors import MachineError
from machine.model.config import Provisioning
from machine.model.record import MachineRecord
from machine.ops.shared.context import Context
from machine.store import records


def ignition(name: str, context: Context) -> str:
    """The file as it is; its private key is the guest's own.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the guest gets none, or the file is gone or cannot be read.
    """
    found = records.find(context.roots, name)
    if isinstance(found, MachineRecord) and found.config.provisioning is not Provisioning.IGNITION:
        raise MachineError(
            f"{name} is provisioned by {found.config.provisioning}, which reads no Ignition config",
            hint=f"what was chosen for it tells: machine export {name}",
        )
    path = context.roots.machine(name).ignition
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
