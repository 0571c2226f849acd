"""Send commands to a machine's supervisor."""

from __future__ import annotations

import contextlib
from typing import Any

from machine import control, lock, sockets
from machine.control import Command
from machine.deadline import Deadline
from machine.errors import DeadlineError, GuestError, MachineError, Page, reason_of
from machine.store.paths import MachinePaths
from machine.store.records import UPGRADE, older_supervisor

# A supervisor probes the host before it listens. If its socket is removed, it takes a moment to listen again.
_LISTENS_S = 15.0
# A supervisor answers this at once, whatever else it does.
_STATUS_S = 5.0


def await_supervisor(paths: MachinePaths, *, timeout_s: float) -> None:
    """Wait until the supervisor listens on its control socket, or has ended. Wait for `timeout_s` at most."""
    deadline = Deadline.after(timeout_s, "the supervisor to listen")
    with contextlib.suppress(DeadlineError):
        deadline.wait_until(lambda: not lock.is_held(paths.supervisor_lock) or sockets.listens(paths.control_socket))


def ask_supervisor(name: str, command: Command, value: str, paths: MachinePaths, *, timeout_s: float) -> dict[str, Any]:
    """Send a command to the machine's supervisor, which may have just started, and return its answer.

    Raises:
        MachineError: there is no supervisor, or the supervisor does not answer or refuses the command.
    """
    await_supervisor(paths, timeout_s=_LISTENS_S)
    _check_answers(name, paths)
    try:
        return control.request(paths.control_socket, command, value, timeout_s=timeout_s)
    except GuestError as error:
        # A supervisor of an older program cannot know that the program has been upgraded since, and tells the user to.
        if error.hint == UPGRADE:
            raise older_supervisor(name, error.message) from error
        raise
    except OSError as error:
        if lock.is_held(paths.supervisor_lock):
            hint = _silent_hint(name)
        elif lock.holder_pid(paths.lock):
            hint = f"restart the supervisor with: machine start {name}"
        else:  # a command that changes a stopped machine holds its lock, or the machine has just stopped
            hint = "try again when that command has ended"
            raise MachineError(f"another command is changing {name}", hint=hint) from error
        raise MachineError(
            f"the supervisor of {name} does not answer: {reason_of(error)}", hint=hint, page=Page.RUNNING
        ) from error


def _check_answers(name: str, paths: MachinePaths) -> None:
    """Check that the supervisor is not silent, so that the user does not wait for the whole deadline of a command.

    Other errors are left to the command itself.

    Raises:
        MachineError: the supervisor does not answer in time.
    """
    try:
        control.request(paths.control_socket, Command.STATUS, timeout_s=_STATUS_S)
    except DeadlineError as error:
        problem = f"the supervisor of {name} does not answer"
        raise MachineError(problem, hint=_silent_hint(name), page=Page.RUNNING) from error
    except (OSError, MachineError, ValueError):
        return


def _silent_hint(name: str) -> str:
    return f"try again, or stop the machine with: machine stop {name}"
