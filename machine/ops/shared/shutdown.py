"""End a machine through its supervisor or, if that does not work, without the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
from collections.abc import Awaitable, Callable
from functools import partial

from machine import control, lock, sockets
from machine.control import Command
from machine.deadline import Deadline
from machine.errors import DeadlineError, MachineError
from machine.model.host import Accelerator
from machine.ops.shared.ask_supervisor import await_supervisor
from machine.ops.shared.context import Context
from machine.ops.shared.patience import kill_patience, stop_patience
from machine.ops.shared.waiting import end_waiting
from machine.providers.login import login_of
from machine.qemu import monitor, shutdown
from machine.qemu.monitor import Monitor
from machine.qemu.shutdown import Ending, Limits, Means
from machine.report import Reporter
from machine.ssh.command import ROOT
from machine.ssh.leftover_masters import end_leftover_masters
from machine.ssh.power_off import power_off
from machine.store import records
from machine.store.paths import MachinePaths, is_suspended
from machine.store.suspension import drop_suspension

log = logging.getLogger(__name__)

_GREETING_S = 5.0
_LOCK_POLL_S = 0.1
_LOCK_S = 30.0
# A supervisor that has adopted its guest notices within a second that the guest has ended, and then cleans up.
_SUPERVISOR_S = 30.0

# Besides its own deadlines for the power button, QEMU's quit and SIGKILL, a supervisor needs time to clean up.
_CLEAN_UP_S = 40.0


def stop_s(patience: int) -> float:
    """Return the longest time in seconds that a machine with a working supervisor takes to stop."""
    return _answer_s(patience) + _LOCK_S * patience


def _answer_s(patience: int) -> float:
    """Return the seconds within which the supervisor answers when it has stopped its machine."""
    limits = shutdown.choose_limits(Accelerator.TCG, patience=patience)
    return limits.power_down_s + limits.quit_s + limits.kill_s + _CLEAN_UP_S * patience


def end_machine(name: str, context: Context, report: Reporter, *, at_once: bool) -> Ending:
    """End all processes of a machine, and return how the machine ended. With `at_once`, the guest is not shut down.

    Raises:
        BadInputError: the value of $MACHINE_PATIENCE is not valid, and the guest is to be shut down.
        MachineError: some process of the machine cannot be ended.
    """
    paths = context.roots.machine(name)
    patience = kill_patience(context) if at_once else stop_patience(context)
    if not lock.is_held(paths.lock):
        sockets.kill_listener(paths.ssh_control)  # of a remote host whose supervisor was killed
        end_waiting(paths)
        return Ending.POWERED_DOWN
    await_supervisor(paths, timeout_s=_GREETING_S * patience)
    answers = _rouse_supervisor(paths, timeout_s=_GREETING_S * patience)
    ending = _ask_supervisor(paths, report, timeout_s=_answer_s(patience), at_once=at_once) if answers else None
    if ending is None:
        report.step("Waiting for VM to exit...")
        limits = shutdown.choose_limits(Accelerator.TCG, patience=patience, at_once=at_once)
        ending = asyncio.run(_end_directly(paths, report, limits, patience, supervised=answers))
        if not at_once:
            # Of a supervisor that ended before QEMU did. The guest has written to its disk since.
            drop_suspension(paths)
    await_end(paths, patience)
    return ending


def await_end(paths: MachinePaths, patience: int) -> None:
    """Wait until QEMU has ended, and remove what the machine leaves in its runtime directory.

    If a process waits for clients of the machine, it has its sockets there, so they stay.

    Raises:
        DeadlineError: QEMU does not end in time.
    """
    Deadline.after(_LOCK_S * patience, "the machine to end").wait_until(lambda: not lock.is_held(paths.lock))
    sockets.kill_listener(paths.ssh_control)  # a killed supervisor leaves its SSH master behind
    if not is_suspended(paths) and not lock.is_held(paths.waiting_lock):
        shutil.rmtree(paths.runtime, ignore_errors=True)


def await_supervisors_end(name: str, context: Context) -> None:
    """Wait until the supervisor of a machine that has ended has ended as well, so that a new one can start.

    Raises:
        DeadlineError: the supervisor does not end in time.
    """
    path = context.roots.machine(name).supervisor_lock
    until = Deadline.after(_SUPERVISOR_S * stop_patience(context), f"the supervisor of {name} to end")
    until.wait_until(lambda: not lock.is_held(path))


def _rouse_supervisor(paths: MachinePaths, *, timeout_s: float) -> bool:
    """Continue a supervisor that a signal has stopped. Return whether the machine has a supervisor that answers."""
    if control.query_state(paths.control_socket):
        return True
    if not lock.signal_holder(paths.supervisor_lock, signal.SIGCONT):
        return False
    until = Deadline.after(timeout_s, "the supervisor to answer")
    with contextlib.suppress(DeadlineError):
        until.wait_until(lambda: control.query_state(paths.control_socket) is not None)
        return True
    return False


def _ask_supervisor(paths: MachinePaths, report: Reporter, *, timeout_s: float, at_once: bool) -> Ending | None:
    """Ask the supervisor to stop its machine, and return how the machine ended. If that fails, return None."""
    command = Command.QUIT if at_once else Command.STOP
    try:
        return Ending(control.request(paths.control_socket, command, timeout_s=timeout_s, report=report)["ending"])
    except (OSError, MachineError) as error:
        log.info("the supervisor did not stop its machine: %s", error)
        return None


async def _end_directly(
    paths: MachinePaths, report: Reporter, limits: Limits, patience: int, *, supervised: bool
) -> Ending:
    """End a machine without its supervisor. Use QEMU's second QMP socket, or else SSH, or else signals.

    If the machine is not `supervised`, a supervisor that it has does not answer.
    """
    ended = _lock_is_free(paths)
    async with contextlib.AsyncExitStack() as stack:
        client = await _connect(paths, stack, patience)
        if client and not supervised:
            # The containers that end want their ports closed, and the guest would wait for its answer.
            lock.signal_holder(paths.supervisor_lock, signal.SIGKILL)
        if client is None and limits.power_down_s > 0:
            # Perhaps QEMU's sockets were removed. A supervisor that still works has its own connection to QEMU.
            if lock.signal_holder(paths.supervisor_lock, signal.SIGTERM) and await ended(limits.power_down_s):
                return Ending.POWERED_DOWN
            report.step("Powering the guest down over SSH...")
        means = Means(
            monitor=client,
            log_in_and_power_off=partial(_log_in_and_power_off, paths, patience),
            send_signal=partial(_send_signal, paths),
            ended=ended,
        )
        ending = await shutdown.shut_down(means, limits)
    end_leftover_masters(paths.ssh_control)
    return ending


async def _connect(paths: MachinePaths, stack: contextlib.AsyncExitStack, patience: int) -> Monitor | None:
    session = monitor.connected(paths.qmp_tools_socket, timeout_s=_GREETING_S, patience=patience)
    try:
        return await stack.enter_async_context(session)
    except MachineError as error:
        log.info("QEMU's second monitor: %s", error)
        return None


async def _log_in_and_power_off(paths: MachinePaths, patience: int) -> bool:
    try:
        config = records.load_last_good(paths).config
    except MachineError as error:
        log.info("the guest's SSH port is unknown: %s", error)
        return False
    if config.remote:  # it is left alone
        return False
    return await power_off(login_of(config, paths, ROOT), patience=patience)


def _send_signal(paths: MachinePaths, number: signal.Signals) -> None:
    """Send a signal to QEMU. Send SIGKILL to the supervisor as well, because it has failed to end QEMU."""
    for path in (*([paths.supervisor_lock] if number is signal.SIGKILL else []), paths.lock):
        lock.signal_holder(path, number)


def _lock_is_free(paths: MachinePaths) -> Callable[[float], Awaitable[bool]]:
    async def ended(timeout_s: float) -> bool:
        until = Deadline.after(timeout_s, "QEMU to end")
        while lock.is_held(paths.lock):
            if until.passed:
                return False
            await asyncio.sleep(_LOCK_POLL_S)
        return True

    return ended
