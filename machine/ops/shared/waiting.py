"""Start and end the process that waits for clients while a machine is asleep."""

from __future__ import annotations

import contextlib

from machine import lock, sockets
from machine.deadline import Deadline
from machine.errors import DeadlineError
from machine.ops.shared.background import spawn
from machine.store.paths import MachinePaths

_END_S = 5.0
_LISTENS_S = 15.0


def start_waiting(name: str, paths: MachinePaths) -> None:
    """Wait for clients of a machine, which is asleep, in a process of its own. Return when that process listens.

    Raises:
        DeadlineError: the process does not listen.
    """
    process = spawn("machine.supervisor.waiting", name, paths, options=["--on-demand"])
    process.returncode = 0  # it outlives us: keep Popen from warning about that
    await_waiting(paths)


def await_waiting(paths: MachinePaths) -> None:
    """Wait until the process listens for clients.

    Raises:
        DeadlineError: the process does not listen.
    """
    deadline = Deadline.after(_LISTENS_S, "the process that waits for clients")
    deadline.wait_until(lambda: sockets.listens(paths.waiting_socket))


def is_waiting(paths: MachinePaths) -> bool:
    """Return whether a process waits for clients of the machine."""
    return lock.is_held(paths.waiting_lock)


def end_waiting(paths: MachinePaths) -> bool:
    """End the process that waits for clients, and return whether there was one. It hangs up on its clients."""
    with contextlib.suppress(DeadlineError):
        return lock.end_holder(paths.waiting_lock, patience_s=_END_S)
    return True
