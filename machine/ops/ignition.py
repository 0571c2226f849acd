"""`machine ignition`: the config that a guest gets."""

from __future__ import annotations

from machine.errors import MachineError
from machine.ops.context import Context
from machine.store import records


def ignition(name: str, context: Context) -> str:
    """The file as it is; its private key is the guest's own.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the file is gone or cannot be read.
    """
    records.find(context.roots, name)
    path = context.roots.machine(name).ignition
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
