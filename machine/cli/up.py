"""The command `machine up`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from machine.cli.common import current_context, is_sure, none_if_empty
from machine.cli.flags import Command
from machine.cli.many import collect, exit_if_failed, print_failure
from machine.cli.tables import table
from machine.errors import EXIT_ERROR, MachineError
from machine.model.state import State

if TYPE_CHECKING:
    from machine.ops.shared.context import Context
    from machine.ops.up import Outcome, Prepared
    from machine.ops.up_plan import Difference, Pace, Plan
    from machine.report import Reporter

# The state of a machine that does not exist.
_NONE = "-"


def file_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--file`, which names the machines file."""
    return click.option(
        "-f",
        "--file",
        metavar="FILE",
        callback=none_if_empty,
        help="The machines file. [default: machines.toml in this directory or the nearest directory above it]",
    )(command)


def file_names_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments `[NAME]...`, which are machines of the machines file."""
    return click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete_names)(command)


def _complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return the file's machines whose names begin with `incomplete`. On an error, return none."""
    from machine.ops.up_file import find_file, load_file

    try:
        file = load_file(find_file(ctx.params.get("file"), current_context().uid))
    except (MachineError, OSError):
        return []
    return [name for name in file.machines if name.startswith(incomplete)]


@click.command("up", cls=Command)
@file_names_argument
@file_option
@click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
@click.option("--prune", is_flag=True, help="Also remove machines that the file has made, but no longer describes.")
@click.option("--force", is_flag=True, help="Do not ask for confirmation before --prune removes machines.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress.")
def command(names: tuple[str, ...], file: str | None, dry_run: bool, prune: bool, force: bool, quiet: bool) -> None:
    """Make and start the machines that a machines file describes, all of them or those that are named.

    The file is TOML. It has a table [machine.NAME] for each machine, with the keys that `machine init -f` knows, and a
    table [defaults] with keys for all of them. Machines that are missing are made, and settings that differ from the
    file are changed, as far as `machine set` can do that. Machines that the file does not describe are left alone
    without --prune, which never removes a machine that the file has not made.

    \b
    Examples:
      machine up
      machine up --dry-run --prune
      machine up -f lab/machines.toml web db
    """
    from machine.cli.terminal import NoticeReporter
    from machine.ops.up import prepare
    from machine.ops.up_file import chosen_names, find_file, load_file
    from machine.ops.up_prune import plan_prune

    if prune and names:
        raise click.UsageError("--prune takes no names, because it is about the whole file")
    if force and not prune:
        raise click.UsageError("--force goes with --prune")
    context, report = current_context(), NoticeReporter()
    machines_file = load_file(find_file(file, context.uid))
    prepared = prepare(machines_file, chosen_names(machines_file, names), context, report)
    extra = plan_prune(machines_file, context, report) if prune else []
    for plan in (machine.plan for machine in prepared):
        for line in difference_lines(plan, machines_file.toml.shown_path) if plan else []:
            click.echo(line, err=True)
    if dry_run:
        _print_plans(prepared, extra)
    elif force or not extra or _may_remove(extra):
        _carry_out(prepared, extra, context, quiet=quiet)


def _may_remove(extra: Sequence[Plan]) -> bool:
    from machine.ops.up_plan import Action

    told = {
        Action.REMOVE: "The following machines will be deleted, with everything in them:",
        Action.FORGET: "The following machines will be forgotten; their hosts, reached over SSH, stay as they are:",
    }
    for action, heading in told.items():
        if names := [plan.name for plan in extra if plan.action is action]:
            click.echo("\n".join([heading, "", *names, ""]))
    return is_sure()


def _carry_out(prepared: Sequence[Prepared], extra: Sequence[Plan], context: Context, *, quiet: bool) -> None:
    from machine.cli.terminal import NamedReporter, NoticeReporter, reporter
    from machine.ops.up import up
    from machine.ops.up_prune import prune

    @contextlib.contextmanager
    def at_once(name: str) -> Iterator[Reporter]:
        yield NamedReporter(name, steps=not quiet)

    outcomes: dict[str, Outcome] = {}
    for running in (
        prune(extra, context, NoticeReporter()),
        up(prepared, context, functools.partial(_tell_pace, quiet=quiet), lambda _: reporter(quiet=quiet), at_once),
    ):
        outcomes |= collect(running)
    names = [machine.name for machine in prepared] + [plan.name for plan in extra]
    rows = [_row(outcomes[name]) for name in names]
    click.echo(table([("NAME", "STATE", "RESULT"), *rows]), nl=False)
    exit_if_failed(outcomes.values())


def _row(outcome: Outcome) -> tuple[str, str, str]:
    result = " and ".join(outcome.done) or "unchanged"
    if outcome.error is not None:
        result = f"{result}, then failed" if outcome.done else "failed"
    return outcome.name, outcome.state or _NONE, result


def _tell_pace(pace: Pace, names: Sequence[str], *, quiet: bool = False) -> None:
    if pace.lacking_mib:
        click.echo(
            f"When all machines run, they have {pace.lacking_mib} MiB of memory more than this host, which may slow it"
            " down",
            err=True,
        )
    if len(names) > 1 and not quiet:
        click.echo(f"Starting {len(names)} machines, {_many(pace, len(names))}: {', '.join(names)}", err=True)


def _many(pace: Pace, count: int) -> str:
    """Return how many of the `count` machines start at a time."""
    if pace.at_once + pace.hosts == count:
        return "all at once"
    if pace.hosts:
        return f"{pace.at_once} of the {count - pace.hosts} virtual machines at a time"
    return f"{pace.at_once} at a time"


def _print_plans(prepared: Sequence[Prepared], extra: Sequence[Plan]) -> None:
    """Print what would be done with each machine. A machine whose record cannot be read has an error instead."""
    for machine in prepared:
        if machine.error:
            print_failure(machine.name, machine.error)
    plans = [machine.plan for machine in prepared if machine.plan]
    rows = [(plan.name, plan.state or _NONE, _intent(plan)) for plan in (*plans, *extra)]
    click.echo(table([("NAME", "STATE", "TO DO"), *rows]), nl=False)
    if len(plans) < len(prepared):
        raise click.exceptions.Exit(EXIT_ERROR)


def _intent(plan: Plan) -> str:
    from machine.ops.up_plan import Action

    verbs = {
        Action.MAKE: ["make", "start"],
        Action.START: ["resume" if plan.state is State.SUSPENDED else "start"],
        Action.NOTHING: [],
        Action.REMOVE: ["remove"],
        Action.FORGET: ["forget"],
    }
    change = [f"change {', '.join(plan.changes)}"] if plan.changes else []
    return " and ".join(change + verbs[plan.action]) or "nothing"


def difference_lines(plan: Plan, file: str) -> list[str]:
    """Return a line for each way in which the machine's settings that differ from the file can follow it or not."""
    from machine.ops.up_plan import Change

    endings = {
        Change.NOW: "up changes this",
        Change.STOPPED: f"to change this, stop the machine first: machine stop {plan.name}",
        Change.NEVER: "this cannot be changed while the machine exists",
    }
    lines = []
    for change, ending in endings.items():
        told = [_told(each, file) for each in plan.differences if each.change is change]
        if told:
            lines.append(f"{plan.name}: {', '.join(told)}; {ending}")
    return lines


def _told(difference: Difference, file: str) -> str:
    if difference.actual is None or difference.wanted is None:
        return f"{difference.key} is not as in {file}"
    return f"{difference.key} is {difference.actual}, but {difference.wanted} in {file}"
