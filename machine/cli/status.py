"""machine status, wait and events"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from machine.cli.common import context, name_argument
from machine.cli.flags import Command
from machine.cli.many import chosen, names_argument, tell_failure
from machine.cli.render import table
from machine.errors import EXIT_ERROR, MachineError
from machine.model.state import State

if TYPE_CHECKING:
    from machine.ops.status import Change

# As systemctl's is-active has it.
_NOT_RUNNING = 3

_WAIT_S = 600


@click.command("status", cls=Command)
@names_argument
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(names: tuple[str, ...], everything: bool, form: str) -> None:
    """Print what machines do: of one a word, of several a table.

    The exit status is 0 where all of them are running, else 3.

    \b
    Examples:
      machine status box || machine start box
      machine status --all --format json
    """
    from machine.ops.status import status

    here = context()
    wanted = chosen(names, "status", everything=everything)
    found, failed = {}, False
    for name in wanted:
        try:
            found[name] = status(name, here)
        except MachineError as error:
            tell_failure(name, error)
            failed = True
    if form == "json":
        rows = [{"Name": name, "State": state.state, "Reason": state.reason} for name, state in found.items()]
        click.echo(json.dumps(rows, indent=2))
    elif len(wanted) == 1 and not everything:
        for state in found.values():
            click.echo(state.state)
    else:
        cells = [(name, state.state, state.reason) for name, state in found.items()]
        click.echo(table([("NAME", "STATE", "REASON"), *cells]), nl=False)
    if failed:
        raise click.exceptions.Exit(EXIT_ERROR)
    if any(state.state is not State.RUNNING for state in found.values()):
        raise click.exceptions.Exit(_NOT_RUNNING)


@click.command("wait", cls=Command)
@name_argument()
@click.option(
    "--for",
    "condition",
    type=click.Choice(["running", "api", "stopped"]),
    default="running",
    show_default=True,
    help="What to wait for; api is an answer on the machine's API socket.",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=0),
    default=_WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait before it is an error.",
)
def wait(name: str, condition: str, timeout: int) -> None:
    """Wait until a machine does something.

    \b
    Examples:
      machine wait --for api box && podman --connection box ps
      machine wait --for stopped --timeout 60 box
    """
    from machine.ops.status import Condition
    from machine.ops.status import wait as wait_for

    wait_for(name, Condition(condition), timeout, context())


@click.command("events", cls=Command)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def events(form: str) -> None:
    """Print a line whenever a machine begins to do something else, until ^C.

    States are looked at twice a second: what lasts less may go unseen.

    \b
    Example:
      machine events --format json
    """
    from machine.ops.status import follow

    for change in follow(context()):
        click.echo(_as_json(change) if form == "json" else _as_text(change))


def _as_text(change: Change) -> str:
    reason = f" ({change.reason})" if change.reason else ""
    return (
        f"{change.moment:%Y-%m-%dT%H:%M:%SZ} {change.name} {change.before or 'absent'} -> "
        f"{change.after or 'absent'}{reason}"
    )


def _as_json(change: Change) -> str:
    from machine.ops.shared.times import rfc3339

    return json.dumps(
        {
            "Time": rfc3339(change.moment),
            "Name": change.name,
            "From": change.before,
            "To": change.after,
            "Reason": change.reason,
        }
    )
