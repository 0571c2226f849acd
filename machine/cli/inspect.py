"""The command `machine inspect`."""

from __future__ import annotations

import click

from machine.cli.common import complete_machines, current_context
from machine.cli.flags import Command
from machine.cli.formats import Documents, print_documents
from machine.errors import EXIT_ERROR, MachineError
from machine.model.names import DEFAULT_MACHINE

# Podman's type names. Templates take a map for a struct unless its type is a map here.
_TYPES = {
    "ConfigDir": "define.VMFile",
    "ConnectionInfo": "machine.ConnectionConfig",
    "Labels": "map[string]string",
    "PodmanSocket": "*define.VMFile",
    "Resources": "vmconfigs.ResourceConfig",
    "SSHConfig": "vmconfigs.SSHConfig",
}


@click.command("inspect", cls=Command)
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=complete_machines)
@click.option("--format", "format_", metavar="FORMAT", help="json or a Go template for each. [default: json]")
def command(names: tuple[str, ...], format_: str | None) -> None:
    """Print everything that is known about machines, as a JSON array.

    \b
    Examples:
      machine inspect --format '{{.State}}' box
      machine inspect --format '{{.LastUp.Format "2006-01-02"}}' box
    """
    from machine.ops.inspect import inspect

    context = current_context()
    found, errors = [], []
    for name in names or (DEFAULT_MACHINE,):
        try:
            found.append(inspect(name, context))
        except MachineError as error:
            errors.append(error)
    try:
        print_documents(
            Documents(name="inspect", type_name="machine.InspectInfo", types=_TYPES, documents=found, indent=5), format_
        )
    except MachineError as error:
        errors.append(error)
    for failure in errors:
        click.echo(f"Error: {failure.line}", err=True)
    if errors:
        raise click.exceptions.Exit(EXIT_ERROR)
