"""Check whether a machine is protected from removal."""

from __future__ import annotations

from machine.errors import MachineError
from machine.ops.shared.context import Context
from machine.store import records
from machine.store.records import BrokenRecord


def check_unprotected(name: str, context: Context) -> None:
    """Check that the machine may be removed. A machine whose record is damaged counts as unprotected.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is protected.
    """
    entry = records.find(context.roots, name)
    if not isinstance(entry, BrokenRecord) and entry.config.protected:
        raise MachineError(f'machine "{name}" is protected', hint=f"to remove it, first run: machine unprotect {name}")
