"""`machine start --foreground`: start a machine and wait until it has stopped, for service managers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from machine import lock
from machine.errors import MachineError
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ops.start import Started, begin, check_startable
from machine.ops.stop import stop
from machine.report import Reporter
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
    )


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
) -> None:
    """Wait until the supervisor ends. If the guest is still running then, start a new supervisor, and wait again.

    `orphaned` says whether the guest is running without a supervisor, and `take_over` starts the new supervisor. After
    ^C, `end` is called to stop the machine.
    """
    try:
        on_started()
        supervisor.wait()
        while orphaned():
            supervisor = take_over()
            supervisor.wait()
    except KeyboardInterrupt:
        end()
        supervisor.wait()
