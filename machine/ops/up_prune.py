"""Remove the machines that a machines file has made, but no longer describes: `machine up --prune`."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from machine.errors import BadInputError, MachineError
from machine.model.record import MachineRecord
from machine.ops.rm import remove
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ops.up import Done, Outcome, outcome_of
from machine.ops.up_file import MachinesFile
from machine.ops.up_plan import Plan, plan_extra
from machine.report import Reporter
from machine.store import records


def plan_prune(file: MachinesFile, context: Context, report: Reporter) -> list[Plan]:
    """Return the plans for the machines to remove. A notice names those that stay because they are protected.

    A machine that `machine init` or another file has made is never among them, nor is a clone or a machine that the
    user has renamed.

    Raises:
        BadInputError: the file is standard input, so that the machines that it has made are unknown.
    """
    if file.identity is None:
        raise BadInputError("--prune needs a file, because standard input has made no machines")
    found = left_over(file, records.load_readable(context.roots))
    for record in found:
        if record.config.protected:
            report.notice(f"{record.name} is not in {file.toml.shown_path}, but it is protected, so it stays")
    extra = [record.config for record in found if not record.config.protected]
    return [plan_extra(config, machine_state(context.roots.machine(config.name))) for config in extra]


def left_over(file: MachinesFile, machines: Sequence[MachineRecord]) -> list[MachineRecord]:
    """Return those of the `machines` that the file has made, but does not describe (pure)."""
    return [
        record
        for record in machines
        if record.config.machines_file == file.identity and record.name not in file.machines
    ]


def prune(plans: Sequence[Plan], context: Context, report: Reporter) -> Generator[Outcome, None, None]:
    """Remove the machines, running ones included, and yield an outcome for each."""
    for name in (plan.name for plan in plans):
        try:
            remove(name, context, report, force=True)
        except (MachineError, OSError) as error:
            yield outcome_of(name, context, error=error)
        else:
            yield outcome_of(name, context, (Done.REMOVED,))
