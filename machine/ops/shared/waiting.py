"""Start and end the process that waits for clients while a machine is asleep."""

from __future__ import annotations

import contextlib

from machine import lock, sockets
from machine.deadline import Deadline
from machine.errors import DeadlineError
from machine.ops.shared.background import spawn
from machine.ops.shared.context import Context
from machine.ops.shared.patience import kill_patience
from machine.store.paths import MachinePaths

_END_S = 5.0
_LISTENS_S = 60.0


def start_waiting(name: str, context: Context) -> None:
    """Wait for clients of a machine, which is asleep, in a process of its own. Return when that process listens.

    Raises:
        DeadlineError: the process does not listen.
    """
    process = spawn("machine.supervisor.waiting", name, context.roots.machine(name), options=["--on-demand"])
    process.returncode = 0  # it outlives us: keep Popen from warning about that
    await_waiting(name, context)


def await_waiting(name: str, context: Context) -> None:
    """Wait until the process listens for clients of the machine, which is asleep.

    Raises:
        DeadlineError: the process does not listen.
    """
    paths = context.roots.machine(name)
    limit_s = _LISTENS_S * kill_patience(context)
    try:
        Deadline.after(limit_s, "clients").wait_until(lambda: sockets.listens(paths.waiting_socket))
    except DeadlineError as error:
        raise DeadlineError(
            f'"{name}" is asleep, but the process that waits for its clients has not answered for {limit_s:.0f} s',
            hint=f"wake the machine with: machine start {name}",
        ) from error


def is_waiting(paths: MachinePaths) -> bool:
    """Return whether a process waits for clients of the machine."""
    return lock.is_held(paths.waiting_lock)


def end_waiting(paths: MachinePaths) -> bool:
    """End the process that waits for clients, and return whether there was one. It hangs up on its clients."""
    with contextlib.suppress(DeadlineError):
        return lock.end_holder(paths.waiting_lock, patience_s=_END_S)
    return True
