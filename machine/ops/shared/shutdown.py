"""End a machine through its supervisor or, if that does not work, without the supervisor."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import Awaitable, Callable

from machine import control, lock, sockets
from machine.control import Command
from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.host import Accelerator
from machine.ops.shared.ask_supervisor import await_supervisor
from machine.qemu import monitor, shutdown
from machine.qemu.shutdown import Ending
from machine.report import Reporter
from machine.store.paths import MachinePaths

log = logging.getLogger(__name__)

_GREETING_S = 5.0
_LOCK_POLL_S = 0.1
_LOCK_S = 30.0

# This is the deadline for the supervisor's answer. It has its own for the power button, QEMU's quit and SIGKILL.
_ANSWER_S = shutdown.patience_s(Accelerator.TCG) + 60.0

STOP_S = _ANSWER_S + _LOCK_S
"""The longest time that a machine with a working supervisor takes to stop."""


def end_machine(paths: MachinePaths, report: Reporter, *, at_once: bool) -> Ending:
    """End all processes of a machine, and return how the machine ended. `at_once` is like pulling the plug."""
    if not lock.is_held(paths.lock):
        return Ending.POWERED_DOWN
    await_supervisor(paths, timeout_s=_GREETING_S)
    ending = _ask_supervisor(paths, report, at_once=at_once)
    if ending is None:
        report.step("Waiting for VM to exit...")
        ending = asyncio.run(_end_directly(paths, at_once=at_once))
    Deadline.after(_LOCK_S, "the machine to end").wait_until(lambda: not lock.is_held(paths.lock))
    sockets.kill_listener(paths.ssh_control)  # a killed supervisor leaves its SSH master behind
    shutil.rmtree(paths.runtime, ignore_errors=True)
    return ending


def _ask_supervisor(paths: MachinePaths, report: Reporter, *, at_once: bool) -> Ending | None:
    """Ask the supervisor to stop its machine. If it does not answer, or ends before its guest, return None."""
    if not control.query_state(paths.control_socket):
        return None
    command = Command.QUIT if at_once else Command.STOP
    try:
        return Ending(control.request(paths.control_socket, command, timeout_s=_ANSWER_S, report=report)["ending"])
    except (OSError, MachineError) as error:
        log.info("the supervisor did not stop its machine: %s", error)
        return None


async def _end_directly(paths: MachinePaths, *, at_once: bool) -> Ending:
    """End a machine whose supervisor does not answer. Try QEMU's second monitor first, then signals."""
    ended = _lock_is_free(paths)
    patience = 0.0 if at_once else shutdown.patience_s(Accelerator.TCG)

    def kill() -> None:
        for path in (paths.supervisor_lock, paths.lock):
            lock.signal_holder(path, signal.SIGKILL)

    try:
        async with monitor.connected(paths.qmp_tools_socket, timeout_s=_GREETING_S) as client:
            return await shutdown.shut_down(client, ended=ended, kill=kill, patience=patience)
    except MachineError as error:
        log.info("QEMU's second monitor: %s", error)
    # Perhaps QEMU's sockets were removed. A supervisor that still works has its own connection to QEMU.
    if patience and lock.signal_holder(paths.supervisor_lock, signal.SIGTERM) and await ended(patience):
        return Ending.POWERED_DOWN
    return await shutdown.shut_down(None, ended=ended, kill=kill, patience=0)


def _lock_is_free(paths: MachinePaths) -> Callable[[float], Awaitable[bool]]:
    async def ended(timeout_s: float) -> bool:
        until = Deadline.after(timeout_s, "QEMU to end")
        while lock.is_held(paths.lock):
            if until.passed:
                return False
            await asyncio.sleep(_LOCK_POLL_S)
        return True

    return ended
