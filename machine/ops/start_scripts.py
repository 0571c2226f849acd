"""Run the user's scripts in a guest that has come up for the first time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from machine import runner
from machine.errors import MachineError
from machine.ignition.provision import PROVISION_RUNNER, PROVISION_UNIT
from machine.model.config import MachineConfig
from machine.ops.shared.context import Context
from machine.ops.shared.patience import start_patience
from machine.ops.shared.target import find_target
from machine.report import Reporter
from machine.ssh.command import ROOT, script_argv
from machine.store import records

# Scripts may have to install packages over a slow connection in an emulated guest.
_SCRIPTS_S = 4 * 3600.0

# The unit's exit status is ignored, because the report has the exit status of each script.
_SCRIPT = f"""
systemctl start {PROVISION_UNIT} >&2 || true
{PROVISION_RUNNER} report
"""

_LINE = re.compile(r"(?P<status>began|waiting|[0-9]+) (?P<number>[0-9]+)-(?:root|user)-.*")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one script.

    `number` is the script's position in the order of the options, counted from 1. `status` is the script's exit status,
    `began` if the script was interrupted, or `waiting` if the script has not been run.
    """

    number: int
    status: str
    last_lines: tuple[str, ...] = ()


def run_scripts(config: MachineConfig, context: Context, report: Reporter, check_up: Callable[[], None]) -> None:
    """Run the scripts in the guest, and wait until they have ended. If a script fails, report it as a notice.

    The machine stays up even then. `check_up` raises an error if the machine is no longer running.
    """
    first_boot = config.first_boot
    names = [script.name for script in (*first_boot.scripts, *([first_boot.playbook] if first_boot.playbook else []))]
    report.step(f"Running {', '.join(names)}")
    try:
        argv = script_argv(find_target(config.name, ROOT, context), ())
        output = runner.run(argv, timeout_s=_SCRIPTS_S * start_patience(context), stdin=_SCRIPT).stdout
        records.edit(
            context.roots.machine(config.name),
            lambda record: replace(record, pending=replace(record.pending, scripts=False)),
        )
    except MachineError as error:
        check_up()
        report.notice(
            f"It is not known whether {', '.join(names)} succeeded: {error.message}. The next start checks again. To "
            f"check now, use: machine ssh {config.name} sudo {PROVISION_RUNNER} report"
        )
        return
    for notice in notices(parse_report(output), names):
        report.notice(notice)


def parse_report(output: str) -> list[Outcome]:
    """Parse the output of `boot2podman-provision report`."""
    outcomes: list[Outcome] = []
    for line in output.splitlines():
        if found := _LINE.fullmatch(line):
            outcomes.append(Outcome(number=int(found["number"]), status=found["status"]))
        elif line.startswith("|") and outcomes:
            last = outcomes[-1]
            outcomes[-1] = replace(last, last_lines=(*last.last_lines, line[1:].removeprefix(" ")))
    return outcomes


def notices(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[str]:
    """Return a notice for each failed script, and a single notice for all scripts that did not run.

    The notice for a failed script has the last lines that the script has printed.
    `names` are the names of all scripts, in the order of their numbers.
    """
    found = []
    waiting = []
    if len(outcomes) != len(names):
        found.append(f"The guest has reported on only {len(outcomes)} of {len(names)} scripts")
    for outcome in outcomes:
        name = names[outcome.number - 1] if outcome.number <= len(names) else str(outcome.number)
        match outcome.status:
            case "0":
                continue
            case "waiting":
                waiting.append(name)
                continue
            case "began":
                how = f"{name} was interrupted and will not be run again"
            case status:
                how = f"{name} failed with exit status {status}"
        found.append("\n".join([f"{how}{'; its last lines:' if outcome.last_lines else ''}", *outcome.last_lines]))
    if waiting:
        found.append(f"{', '.join(waiting)} did not run")
    return found
