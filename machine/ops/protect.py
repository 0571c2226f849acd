"""`machine protect` and `unprotect`: whether a machine may be removed."""

from __future__ import annotations

from dataclasses import replace

from machine.errors import MachineError
from machine.ops.shared.context import Context
from machine.store import records
from machine.store.records import BrokenRecord


def protect(name: str, context: Context, *, protected: bool) -> None:
    """Note it in the record, also while the machine runs.

    Raises:
        NotFoundError: there is no such machine.
    """
    records.load(context.roots, name)
    records.edit(context.roots.machine(name), lambda config: replace(config, protected=protected))


def check_unprotected(name: str, context: Context) -> None:
    """Raises:
    MachineError: the machine must not be removed. One whose record is damaged tells nothing, and may.
    """
    entry = records.find(context.roots, name)
    if not isinstance(entry, BrokenRecord) and entry.protected:
        raise MachineError(f'machine "{name}" is protected', hint=f"allow it with: machine unprotect {name}")
