"""Find out how to reach a machine's guest over SSH."""

from __future__ import annotations

from machine.errors import GuestError, MachineError, Page
from machine.model.state import MachineState, State
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.providers.login import login_of
from machine.ssh.command import ROOT, SshTarget
from machine.ssh.greeting import greets
from machine.store import records

# An emulated guest takes a second to greet. With what the program needs to start, the user waits less than ten seconds.
_GREETING_S = 7.0


def find_target(name: str, username: str | None, context: Context) -> SshTarget:
    """Return the address, user and key by which ssh logs in to a guest.

    If `username` is None, the user is root if the machine is a rootful virtual machine, and else the guest's user.

    Raises:
        NotFoundError: there is no such machine.
    """
    config = records.load(context.roots, name).config
    default = ROOT if config.rootful and not config.remote else config.username
    return login_of(config, context.roots.machine(name), username or default)


def running_target(name: str, username: str | None, context: Context) -> SshTarget:
    """Return what `find_target` returns, but only if the machine is running.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running, or its SSH key is missing.
        GuestError: the guest is paused or does not answer.
    """
    target = find_target(name, username, context)
    state = machine_state(context.roots.machine(name))
    if error := unreachable_error(name, state):
        raise error
    if not state.connected and not greets(target, timeout_s=_GREETING_S):
        problem = f'"{name}" does not answer: {state.reason or state.state}'
        raise GuestError(problem, hint=f"see: machine logs {name}", page=Page.RUNNING)
    if not target.identity.is_file():
        raise MachineError(
            f"the SSH key of {name} is missing: {target.identity}",
            hint="restore it from a backup, or stop the machine and make a clone, which gets keys of its own: "
            f"machine clone {name} NAME",
            page=Page.FILES,
        )
    return target


def unreachable_error(name: str, state: MachineState) -> MachineError | None:
    """Return the error if a machine in this state cannot answer. If the machine may answer, return None."""
    match state.state:
        case State.STOPPED | State.SUSPENDED:
            return MachineError(f'vm "{name}" is not running', hint=f"start it with: machine start {name}")
        case State.PAUSED:
            reason = f": {state.reason}" if state.reason else ""
            return GuestError(f'the guest of "{name}" is paused{reason}', page=Page.PAUSED)
        case _:
            return None


def ended_error(name: str, state: MachineState) -> MachineError | None:
    """Return the error of a session that failed, if the machine's state after the failure explains it, or else None."""
    match state.state:
        case State.STOPPED:
            return MachineError(f'vm "{name}" has stopped')
        case State.STOPPING:
            return MachineError(f'vm "{name}" is being stopped')
        case _:
            return unreachable_error(name, state)
