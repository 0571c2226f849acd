"""`machine start`: start a machine's supervisor, and pass on its reports until the machine is up."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from machine import control, lock
from machine.control import Command
from machine.deadline import Deadline
from machine.errors import GuestError, MachineError, Page
from machine.ignition.provision import MARKER_UP_TO_5
from machine.model.config import MachineConfig
from machine.model.state import State
from machine.ops.shared.background import spawn
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.leftover_qemu import end_leftover_qemu
from machine.ops.shared.machine_events import send_event
from machine.ops.shared.patience import start_patience
from machine.ops.shared.restoring import finish_interrupted
from machine.ops.shared.state import machine_state
from machine.ops.start_check_swap import check_swap_device
from machine.ops.start_scripts import run_scripts
from machine.ops.start_update_guest import update_guest
from machine.podman.machine_events import Event
from machine.report import Reporter
from machine.store import drafts, records
from machine.store.paths import MachinePaths, is_suspended
from machine.store.suspension import drop_suspension

if TYPE_CHECKING:
    from machine.model.folders import Folder

_ABORT_S = 30.0
_LOCK_S = 1.0
# After QEMU has ended, its supervisor does so well within this time.
_ENDING_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Started:
    """A machine that has started. `api_socket` is the socket on this host that Docker clients should use."""

    config: MachineConfig
    api_socket: Path


def check_startable(name: str, context: Context) -> None:
    """Check that the machine is stopped, or that it is running without a supervisor, so that `start` can be called.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is already running, or its record is damaged.
    """
    records.load(context.roots, name)
    _is_orphaned(name, context.roots.machine(name))


def start(
    name: str, context: Context, report: Reporter, interrupt: Interrupt | None = None, *, cold: bool = False
) -> Started:
    """Start the machine. If it is running but its supervisor has ended, give it a new supervisor.

    A suspended machine is resumed. With `cold`, the memory that was saved is given up, and the guest boots.

    ^C aborts the start. The main thread gets a KeyboardInterrupt. Other threads learn of ^C through `interrupt`.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is already running, or did not come up. If its guest answers over SSH, the machine
            keeps running, degraded. Otherwise, no process of the machine is left.
    """
    if cold:
        give_up_memory(name, context, report)
    started, process = begin(name, context, report, interrupt)
    process.returncode = 0  # the supervisor outlives us: keep Popen from warning about that
    return started


def give_up_memory(name: str, context: Context, report: Reporter) -> None:
    """Remove the saved memory of a suspended machine. For its guest, this is a power cut.

    Raises:
        DiskError: the memory cannot be removed.
    """
    paths = context.roots.machine(name)
    end_leftover_qemu(paths)
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if free and is_suspended(paths):
            drop_suspension(paths)
            report.notice(f'The saved memory of "{name}" is given up')


def begin(
    name: str, context: Context, report: Reporter, interrupt: Interrupt | None = None
) -> tuple[Started, subprocess.Popen[bytes]]:
    """Start the machine as `start` does. Also return the supervisor's process, so that the caller can wait for it."""
    if interrupt:
        interrupt.check()
    patience = start_patience(context)
    config = finish_interrupted(name, context, report).config
    paths = context.roots.machine(name)
    end_leftover_qemu(paths)
    adopt = _is_orphaned(name, paths)
    if adopt:
        report.notice(f'The supervisor of "{name}" has ended, so a new one takes over the running guest')
    if notice := hidden_marker(config.folders):
        report.notice(notice)
    with drafts.names_lock(context.roots):
        ClientRegistration(context).register(config, report)
    # The supervisor says "starting" until this block ends.
    with _running_supervisor(name, paths, report, patience=patience, adopt=adopt, interrupt=interrupt) as (
        process,
        lines,
    ):
        record = records.load(context.roots, name)  # the supervisor may have changed the port
        config = record.config
        check_up = partial(_check_up, name, paths, lines)
        check_failed = partial(check_up, patience_s=_ENDING_S * patience)
        if config.remote is None:
            update_guest(record, context, report, check_failed)
            check_swap_device(config, context, report)
        elif record.pending.guest_outdated:  # the folders are all that such a host has to be told
            records.edit(paths, lambda record: replace(record, pending=replace(record.pending, guest_outdated=False)))
        if record.pending.scripts:
            run_scripts(config, context, report, check_failed)
        check_up()
    send_event(Event.START, name, context)
    return Started(config=config, api_socket=paths.api_socket(rootful=config.rootful)), process


def hidden_marker(folders: Iterable[Folder]) -> str | None:
    """Return a notice if one of the folders is mounted over the directory of the marker file in the guest.

    Podman up to version 5 looks for the marker file to find out whether it runs in a machine.
    """
    directory, name = os.path.split(MARKER_UP_TO_5)
    for folder in folders:
        marker = Path(folder.source, name)
        if folder.target == directory and not marker.exists():
            return (
                f"{folder.source} hides the guest's directory {directory}, in which Podman up to version 5 needs the "
                f"file {name} to publish ports. Create the file with: echo qemu >{marker}"
            )
    return None


def _is_orphaned(name: str, paths: MachinePaths) -> bool:
    current = machine_state(paths)
    match current.state:
        case State.STOPPED | State.SUSPENDED:
            return False
        case State.DEGRADED if current.is_orphaned:
            return True
        case State.STARTING:
            raise MachineError(f'unable to start "{name}": already starting')
        case State.STOPPING:
            raise MachineError(
                f'unable to start "{name}": it is being stopped', hint="try again when the machine has stopped"
            )
        case _:
            raise MachineError(f'unable to start "{name}": already running')


@contextlib.contextmanager
def _running_supervisor(
    name: str, paths: MachinePaths, report: Reporter, *, patience: int, adopt: bool, interrupt: Interrupt | None
) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """Start a supervisor, and wait until the machine is up. During the block, the supervisor can report through a pipe.

    ^C ends a guest that boots, but not one that is adopted or resumed, which would lose what it has in its memory.

    Yield the supervisor's process, and the end of the pipe to read from. When the supervisor ends, a read from the pipe
    returns no bytes.

    Raises:
        MachineError: the machine did not come up.
    """
    runs_on = adopt or is_suspended(paths)
    reading, writing = os.pipe()
    options = [*(["--adopt"] if adopt else []), "--report-fd", str(writing)]
    with os.fdopen(reading, "rb") as lines:
        try:
            process = _spawn(name, options, writing, paths)
            result = control.follow(interrupt.lines(lines) if interrupt else lines, report)
        except MachineError:
            # A supervisor that answers has left the guest running. One that ends keeps a new one from starting.
            if control.query_state(paths.control_socket) is None:
                _await_end(lines, patience)
            raise
        except KeyboardInterrupt:
            if not runs_on:
                _abort(paths, lines, patience)
            raise
        if result is None:
            problem = f'unable to start "{name}": its supervisor ended'
            raise MachineError(problem, hint=f"see {paths.supervisor_log}", page=Page.STARTS)
        yield process, lines


def _spawn(name: str, options: list[str], report_fd: int, paths: MachinePaths) -> subprocess.Popen[bytes]:
    """Start the supervisor, and close our copy of `report_fd`. The report then ends when the supervisor ends."""
    try:
        return spawn("machine.supervisor", name, paths, options=options, pass_fds=(report_fd,))
    finally:
        os.close(report_fd)


def _abort(paths: MachinePaths, lines: BinaryIO, patience: int) -> None:
    """End the machine of an interrupted start. Ask its supervisor to quit, again and again, until it has ended."""
    deadline = Deadline.after(_ABORT_S * patience, "the supervisor to end")
    while not deadline.passed and not _has_ended(lines):
        with contextlib.suppress(OSError, MachineError):
            control.request(paths.control_socket, Command.QUIT, timeout_s=deadline.left_s)


def _check_up(name: str, paths: MachinePaths, lines: BinaryIO, *, patience_s: float = 0.0) -> None:
    """Check that the machine is still up. A supervisor that is about to end has `patience_s` to end.

    Raises:
        GuestError: another command has stopped or removed the machine.
    """
    deadline = Deadline.after(patience_s, "the supervisor to end")
    is_down = machine_state(paths).state in (State.STOPPING, State.STOPPED, State.SUSPENDED) or _has_ended(lines)
    while not is_down and not deadline.passed:
        is_down = _has_ended(lines)
    if is_down:
        raise GuestError(f'unable to start "{name}": another command has stopped or removed it')


def _await_end(lines: BinaryIO, patience: int) -> None:
    with contextlib.suppress(MachineError):
        Deadline.after(_ABORT_S * patience, "the supervisor to end").wait_until(lambda: _has_ended(lines))


def _has_ended(lines: BinaryIO) -> bool:
    """Wait up to a tenth of a second for the supervisor to end. Return whether it has ended."""
    readable, _, _ = select.select([lines], [], [], 0.1)
    return bool(readable) and not os.read(lines.fileno(), control.MAX_LINE_BYTES)
