"""`machine ssh`: run a shell or a command in a running guest."""

from __future__ import annotations

from collections.abc import Sequence

from machine.ops.shared.context import Context
from machine.ops.shared.target import running_target
from machine.ssh.client import check_user
from machine.ssh.command import session_argv
from machine.store.names import machine_names


def is_machine(name: str, context: Context) -> bool:
    return name in machine_names(context.roots)


def session(
    name: str, username: str | None, command: Sequence[str], context: Context, *, no_input: bool = False
) -> list[str]:
    """Return the argv of an interactive session in a running guest, or of one command there.

    With `no_input`, its standard input is /dev/null.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running, or ssh refuses to run for this user.
    """
    target = running_target(name, username, context)
    check_user()
    return session_argv(target, command, no_input=no_input)
