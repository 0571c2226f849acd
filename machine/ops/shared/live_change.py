"""Change the record of a machine, through the supervisor if the machine is running."""

from __future__ import annotations

from collections.abc import Callable

from machine import lock
from machine.control import Command
from machine.model.record import MachineRecord
from machine.ops.shared.ask_supervisor import ask_supervisor
from machine.ops.shared.context import Context
from machine.store import records

# Commands that change a stopped machine hold the machine's lock for a shorter time.
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
    """Change a machine, whether it is running or stopped.

    If the machine is stopped, `edit` changes the machine's record. If the machine is running, `command` with `value` is
    sent to the supervisor, which changes both the record and the running machine, and has `timeout_s` to answer.

    Raises:
        MachineError: the record cannot be written, or the supervisor refuses the command or does not answer.
    """
    paths = context.roots.machine(name)
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if free:
            records.edit(paths, edit)
            return
    ask_supervisor(name, command, value, paths, timeout_s=timeout_s)
