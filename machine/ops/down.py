"""`machine down`: stop the machines that a machines file describes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from enum import StrEnum

from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.parallel import Result, each
from machine.ops.shared.state import machine_state
from machine.ops.stop import stop
from machine.ops.up_file import MachinesFile, check_made_from
from machine.report import Reporter
from machine.store import records
from machine.store.names import exists
from machine.store.records import BrokenRecord


class Stopping(StrEnum):
    """What has been done with a machine, in the words that the summary has for it."""

    STOPPED = "stopped"
    ALREADY = "already stopped"
    NOT_MADE = "not made"


def down(
    file: MachinesFile, names: Sequence[str], context: Context, reporter: Callable[[str], Reporter]
) -> Generator[Result[Stopping], None, None]:
    """Stop the machines called `names`, several at once, and yield a result for each once it is there.

    A suspended machine is resumed first, so that its guest can shut down. A machine that fails does not keep the others
    from being stopped.

    Raises:
        MachineError: another file has made one of the machines, so none is stopped.
    """
    for name in names:
        if exists(context.roots, name):
            record = records.find(context.roots, name)
            if not isinstance(record, BrokenRecord):
                check_made_from(record.config, file)

    def end(name: str) -> Stopping:
        if not exists(context.roots, name):
            return Stopping.NOT_MADE
        was = machine_state(context.roots.machine(name)).state
        report = reporter(name)
        ending = stop(name, context, report)
        if ending.notice:
            report.notice(ending.notice)
        return Stopping.ALREADY if was is State.STOPPED else Stopping.STOPPED

    yield from each(names, end)
