"""The command `machine status`."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import chosen, names_argument, print_failure
from machine.cli.tables import table
from machine.errors import EXIT_ERROR, MachineError
from machine.model.state import MachineState, State

# The exit status of `systemctl is-active` for a unit that is not active.
_NOT_RUNNING = 3


@click.command("status", cls=Command)
@names_argument
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(names: tuple[str, ...], everything: bool, format_: str) -> None:
    """Print the state of machines, as one word for a single machine, else as a table.

    The exit status is 0 if all of these machines are running, else 3.

    \b
    Examples:
      machine status box || machine start box
      machine status --all --format json
    """
    from machine.ops.status import status

    context = current_context()
    selected = chosen(names, "status", everything=everything)
    found = {}
    for name in selected:
        try:
            found[name] = status(name, context)
        except MachineError as error:
            print_failure(name, error)
    if format_ == "table" and len(selected) == 1 and not everything:
        format_ = "word"
    click.echo(_FORMS[format_](found), nl=False)
    if len(found) < len(selected):
        raise click.exceptions.Exit(EXIT_ERROR)
    if any(state.state is not State.RUNNING for state in found.values()):
        raise click.exceptions.Exit(_NOT_RUNNING)


def _as_word(states: Mapping[str, MachineState]) -> str:
    return "".join(f"{state.state}\n" for state in states.values())


def _as_table(states: Mapping[str, MachineState]) -> str:
    return table(
        [("NAME", "STATE", "REASON"), *((name, state.state, state.reason or "") for name, state in states.items())]
    )


def _as_json(states: Mapping[str, MachineState]) -> str:
    rows = [{"Name": name, "State": state.state, "Reason": state.reason or ""} for name, state in states.items()]
    return json.dumps(rows, indent=2) + "\n"


_FORMS = {"word": _as_word, "table": _as_table, "json": _as_json}
