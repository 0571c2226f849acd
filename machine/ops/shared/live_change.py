"""Changing a machine's record, through its supervisor where one runs."""

from __future__ import annotations

from collections.abc import Callable

from machine import lock
from machine.control import Command
from machine.model.record import MachineRecord
from machine.ops.shared.context import Context
from machine.ops.shared.supervisor import ask_supervisor
from machine.store import records

# Long enough for a command that changes the machine to end.
_LOCK_S = 1.0


def change_machine(
    name: str,
    context: Context,
    command: Command,
    value: str,
    edit: Callable[[MachineRecord], MachineRecord],
    *,
    timeout_s: float,
) -> None:
    """Change the machine's record with `edit`; where it runs, its supervisor does so, and applies the change at once.

    The supervisor is sent `command` with `value`, and has `timeout_s` to answer.

    Raises:
        MachineError: the record cannot be written, or the supervisor refuses or does not answer.
    """
    paths = context.roots.machine(name)
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if free:
            records.edit(paths, edit)
            return
    ask_supervisor(name, command, value, paths, timeout_s=timeout_s)
