"""`machine rm`: end a machine's processes and remove its files, sockets and connections."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from machine import lock, sockets
from machine.errors import MachineError
from machine.ops.rm_saved import save_disk, save_ignition
from machine.ops.shared import login_service
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.machine_events import send_event
from machine.ops.shared.protection import check_unprotected
from machine.ops.shared.restoring import finish_interrupted
from machine.ops.shared.shutdown import end_machine
from machine.ops.shared.state import machine_state
from machine.ops.shared.waiting import end_waiting
from machine.podman.machine_events import Event
from machine.report import Reporter
from machine.store import drafts
from machine.store.names import check_exists


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The parts of a machine that are kept when the machine is removed."""

    disk: bool = False
    ignition: bool = False


NOTHING = Kept()


def files_to_remove(name: str, context: Context, kept: Kept) -> list[Path]:
    """List the files that `remove` would delete.

    Raises:
        NotFoundError: there is no such machine.
    """
    check_exists(context.roots, name)
    paths = context.roots.machine(name)
    kept_files = {*([paths.disk] if kept.disk else []), *([paths.ignition] if kept.ignition else [])}
    return sorted(path for path in paths.directory.iterdir() if path not in kept_files)


def check_removable(name: str, context: Context) -> None:
    """Check that the machine can be removed without `force`.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is protected or running.
    """
    check_exists(context.roots, name)
    check_unprotected(name, context)
    if machine_state(context.roots.machine(name)).state.has_processes:
        raise MachineError(f'running vm "{name}" cannot be destroyed', hint="stop it first, or use --force")


def remove(name: str, context: Context, report: Reporter, *, force: bool, kept: Kept = NOTHING) -> None:
    """Remove the machine. With `force`, remove the machine even if it is running or its record is damaged.

    The parts that are to be `kept` are saved in another directory before anything is deleted.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is protected, or is running and `force` is not set, or one of its processes cannot be
            ended.
    """
    check_exists(context.roots, name)
    check_unprotected(name, context)
    paths = context.roots.machine(name)
    if force:
        end_machine(name, context, report, at_once=True)
    else:
        check_removable(name, context)
        end_waiting(paths)
    with contextlib.suppress(MachineError):  # a damaged record does not say whether a rename is unfinished
        finish_interrupted(name, context, report)
    with lock.held(paths.lock, timeout_s=1) as free:
        if not free:
            raise MachineError(f'running vm "{name}" cannot be destroyed', hint="it has just been started")
        sockets.kill_listener(paths.ssh_control)  # of a remote host whose supervisor was killed
        if kept.disk:
            report.notice(f'The disk of "{name}" is kept: {save_disk(name, paths, context.roots)}')
        if kept.ignition:
            report.notice(f'The Ignition config of "{name}" is kept: {save_ignition(name, paths, context.roots)}')
        with drafts.names_lock(context.roots):
            check_unprotected(name, context)
            ClientRegistration(context).unregister(name, report)
            login_service.remove(name, context)
            drafts.remove(context.roots, name)
    send_event(Event.REMOVE, name, context)
