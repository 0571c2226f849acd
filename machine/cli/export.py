"""The command `machine export`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import Command


@click.command("export", cls=Command)
@name_argument()
def command(name: str) -> None:
    """Print a machine as a TOML file from which `machine init -f` makes an equal one.

    The file includes the scripts and the variables that were given to init, which may contain secrets.

    \b
    Examples:
      machine export box >box.toml
      machine export box | machine init -f - other
    """
    from machine.ops.export import export

    click.echo(export(name, current_context()), nl=False)
