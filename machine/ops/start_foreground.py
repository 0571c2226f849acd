"""`machine start --foreground`: start a machine and wait until it has stopped, for service managers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial

from machine import lock
from machine.errors import MachineError
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ops.shared.waiting import end_waiting
from machine.ops.start import Started, begin, check_startable
from machine.ops.start_on_demand import start_on_demand
from machine.ops.stop import stop
from machine.report import Reporter, SilentReporter
from machine.store.paths import MachinePaths

_POLL_S = 1.0


def run(
    name: str, context: Context, report: Reporter, on_started: Callable[[Started], None], *, later: Reporter
) -> None:
    """Start the machine and return when it has stopped.

    A ^C after the start stops the machine as `machine stop` does. Progress is reported to `report` until the machine is
    up and `on_started` has been called, and to `later` after that.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine did not come up, or cannot be stopped.
        KeyboardInterrupt: ^C was pressed during the start. No process of the machine is left.
    """
    paths = context.roots.machine(name)

    def end() -> None:
        if _end_asleep(paths):
            return
        ending = stop(name, context, later)
        if ending.notice:
            later.notice(ending.notice)

    def take_over() -> subprocess.Popen[bytes]:
        return begin(name, context, later)[1]

    check_startable(name, context)
    try:
        started, supervisor = begin(name, context, report)
    except MachineError as error:
        if machine_state(paths).state.is_up:
            later.notice(error.line)
            _attend_degraded(paths, take_over, end)
        raise
    attend(
        supervisor,
        on_started=lambda: on_started(started),
        orphaned=lambda: machine_state(paths).is_orphaned,
        take_over=take_over,
        end=end,
        lives_on=partial(_lives_on, paths),
    )


def run_on_demand(name: str, context: Context, on_waiting: Callable[[], None]) -> None:
    """Start the machine when its first client connects, and return when it has stopped after that.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is running, or cannot be stopped.
    """
    paths = context.roots.machine(name)
    start_on_demand(name, context)
    try:
        on_waiting()
        while _lives_on(paths):
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        if not _end_asleep(paths):
            stop(name, context, SilentReporter())


def _end_asleep(paths: MachinePaths) -> bool:
    """End the process that waits for clients of a machine that is asleep. Return whether there was one."""
    return not lock.is_held(paths.lock) and end_waiting(paths)


def _lives_on(paths: MachinePaths) -> bool:
    """Return whether the machine runs or waits for clients, so that its processes may not be ended."""
    return any(lock.is_held(path) for path in (paths.waiting_lock, paths.lock, paths.supervisor_lock))


def _attend_degraded(paths: MachinePaths, take_over: Callable[[], object], end: Callable[[], None]) -> None:
    """Wait until a degraded machine stops. If this process ended first, a service manager would kill the machine.

    If the supervisor ends before the guest, `take_over` starts a new one. After ^C, `end` stops the machine.
    """
    try:
        while True:
            while lock.is_held(paths.supervisor_lock):
                time.sleep(_POLL_S)
            if not machine_state(paths).is_orphaned:
                return
            take_over()
    except KeyboardInterrupt:
        end()


def attend(
    supervisor: subprocess.Popen[bytes],
    *,
    on_started: Callable[[], None],
    orphaned: Callable[[], bool],
    take_over: Callable[[], subprocess.Popen[bytes]],
    end: Callable[[], None],
    lives_on: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until the supervisor ends. If the guest is still running then, start a new supervisor, and wait again.

    A machine that was suspended and woken has a supervisor that is not ours. As long as `lives_on`, wait for that one.
    `orphaned` says whether the guest is running without a supervisor, and `take_over` starts the new supervisor. After
    ^C, `end` is called to stop the machine.
    """
    try:
        on_started()
        supervisor.wait()
        while True:
            if orphaned():
                supervisor = take_over()
                supervisor.wait()
            elif lives_on():
                time.sleep(_POLL_S)
            else:
                return
    except KeyboardInterrupt:
        end()
        supervisor.wait()
