"""`machine ssh`: run a shell or a command in a running guest."""

from __future__ import annotations

from collections.abc import Sequence

from machine.ops.shared.context import Context
from machine.ops.shared.target import running_target
from machine.ssh.command import session_argv
from machine.store.names import machine_names


def is_machine(name: str, context: Context) -> bool:
    return name in machine_names(context.roots)


def session(name: str, username: str | None, command: Sequence[str], context: Context) -> list[str]:
    """Return the argv that opens an interactive session in a running guest, or runs one command there.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running.
    """
    return session_argv(running_target(name, username, context), command)
