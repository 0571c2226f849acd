"""`machine suspend`: save the memory of a running machine on disk and end its QEMU, so that a start continues there."""

from __future__ import annotations

from machine import control
from machine.control import Command
from machine.errors import GuestError, MachineError, Page
from machine.model.provider import Capability
from machine.model.state import State
from machine.ops.shared.capability import require
from machine.ops.shared.context import Context
from machine.ops.shared.leftover_qemu import end_leftover_qemu
from machine.ops.shared.machine_events import send_event
from machine.ops.shared.patience import stop_patience
from machine.ops.shared.shutdown import await_end, await_supervisors_end
from machine.ops.shared.state import machine_state
from machine.ops.shared.waiting import await_waiting, is_waiting, start_waiting
from machine.podman.machine_events import Event
from machine.report import Reporter
from machine.store.names import check_exists

# The supervisor has its own deadlines, for unplugging the folders and for each MiB of memory.
_ANSWER_S = 1800.0


def suspend(name: str, context: Context, report: Reporter) -> None:
    """Suspend the machine. A machine that is suspended already stays as it is.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running, or its memory cannot be saved. It then keeps running.
        DeadlineError: the machine is suspended, but no process waits for its clients.
    """
    require(name, Capability.SUSPEND, context)
    check_exists(context.roots, name)
    paths = context.roots.machine(name)
    end_leftover_qemu(paths)
    state = machine_state(paths)
    if state.state is State.SUSPENDED:
        if not is_waiting(paths):  # its process was killed, or the host has booted since
            start_waiting(name, context)
        return
    if state.state is State.STOPPED:
        raise MachineError(f'unable to suspend "{name}": it is not running')
    if state.is_orphaned:
        hint = f"give it a new supervisor first: machine start {name}"
        raise MachineError(f'unable to suspend "{name}": its supervisor has ended', hint=hint, page=Page.RUNNING)
    patience = stop_patience(context)
    try:
        control.request(paths.control_socket, Command.SUSPEND, timeout_s=_ANSWER_S * patience, report=report)
    except OSError as error:
        problem = f'unable to suspend "{name}": its supervisor does not answer'
        raise MachineError(problem, page=Page.RUNNING) from error
    except GuestError as error:
        raise GuestError(
            f'unable to suspend "{name}": {error.message}', details=error.details, hint=error.hint
        ) from error
    await_supervisors_end(name, context)
    await_end(paths, patience)
    send_event(Event.STOP, name, context)
    await_waiting(name, context)
