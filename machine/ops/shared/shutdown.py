"""Ending a machine: through its supervisor, or past it where it is gone."""

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
from machine.ops.shared.supervisor import await_supervisor
from machine.qemu import monitor, shutdown
from machine.qemu.shutdown import Ending
from machine.report import Reporter
from machine.store.paths import MachinePaths

log = logging.getLogger(__name__)

_GREETING_S = 5.0
_LOCK_POLL_S = 0.1
_LOCK_S = 30.0

# The button, QUIT and SIGKILL each have their own deadline in the supervisor; this one is for the answer.
_ANSWER_S = shutdown.patience_s(Accelerator.TCG) + 60.0

STOP_S = _ANSWER_S + _LOCK_S
"""The longest that a machine takes to stop while its supervisor answers."""


def end_machine(paths: MachinePaths, report: Reporter, *, at_once: bool) -> Ending:
    """End whatever runs of a machine; `at_once` is pulling the plug."""
    if not lock.is_held(paths.lock):
        return Ending.POWERED_DOWN
    await_supervisor(paths, timeout_s=_GREETING_S)
    ending = _ask_supervisor(paths, report, at_once=at_once)
    if ending is None:
        report.step("Waiting for VM to exit...")
        ending = asyncio.run(_end_directly(paths, at_once=at_once))
    Deadline.after(_LOCK_S, "the machine to end").wait_until(lambda: not lock.is_held(paths.lock))
    sockets.kill_listener(paths.ssh_control)  # the master of a supervisor that was killed
    shutil.rmtree(paths.runtime, ignore_errors=True)
    return ending


def _ask_supervisor(paths: MachinePaths, report: Reporter, *, at_once: bool) -> Ending | None:
    """What the supervisor says of the end, or None where it does not answer, or ends before its guest."""
    if not control.query_state(paths.control_socket):
        return None
    command = Command.QUIT if at_once else Command.STOP
    try:
        return Ending(control.request(paths.control_socket, command, timeout_s=_ANSWER_S, report=report)["ending"])
    except (OSError, MachineError) as error:
        log.info("the supervisor did not stop its machine: %s", error)
        return None


async def _end_directly(paths: MachinePaths, *, at_once: bool) -> Ending:
    """Without a supervisor that answers: through QEMU's second monitor, then by signals."""
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
    # Its sockets are gone, perhaps: a supervisor that still works has its own way to QEMU.
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
