"""machine inspect"""

from __future__ import annotations

import json

import click

from machine.cli.common import complete_machines, context
from machine.errors import EXIT_ERROR, MachineError
from machine.model.names import DEFAULT_MACHINE


@click.command("inspect")
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=complete_machines)
def command(names: tuple[str, ...]) -> None:
    """Print all that is known of machines, as a JSON array."""
    from machine.ops.inspect import inspect

    here = context()
    found, errors = [], []
    for name in names or (DEFAULT_MACHINE,):
        try:
            found.append(inspect(name, here))
        except MachineError as error:
            errors.append(error)
    click.echo(json.dumps(found, indent=5))
    for failure in errors:
        click.echo(f"Error: {failure.line}", err=True)
    if errors:
        raise click.exceptions.Exit(EXIT_ERROR)
