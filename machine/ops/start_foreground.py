"""`machine start --foreground`: for whoever runs services, a process that lives as long as the machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ops.start import Started, begin
from machine.ops.stop import stop
from machine.report import Reporter


def run(
    name: str, context: Context, report: Reporter, on_started: Callable[[Started], None], *, later: Reporter
) -> None:
    """Start the machine, and return when it has stopped; an interrupt after its start stops it as `machine stop` does.

    `report` hears of the start, up to `on_started`, and `later` of the rest.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: it did not come up, or survives everything.
        KeyboardInterrupt: it was interrupted before it was up; then no process of it is left.
    """
    paths = context.roots.machine(name)

    def end() -> None:
        ending = stop(name, context, later)
        if ending.notice:
            later.notice(ending.notice)

    started, supervisor = begin(name, context, report)
    attend(
        supervisor,
        on_started=lambda: on_started(started),
        orphaned=lambda: machine_state(paths).is_orphaned,
        take_over=lambda: begin(name, context, later)[1],
        end=end,
    )


def attend(
    supervisor: subprocess.Popen[bytes],
    *,
    on_started: Callable[[], None],
    orphaned: Callable[[], bool],
    take_over: Callable[[], subprocess.Popen[bytes]],
    end: Callable[[], None],
) -> None:
    """Wait for the supervisor's end; one whose guest goes on is replaced, and an interrupt calls `end`."""
    try:
        on_started()
        supervisor.wait()
        while orphaned():
            supervisor = take_over()
            supervisor.wait()
    except KeyboardInterrupt:
        end()
        supervisor.wait()
