"""The command `machine ignition`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import Command


@click.command("ignition", cls=Command)
@name_argument()
def command(name: str) -> None:
    """Print the Ignition config that a machine reads at its first boot.

    The config contains the private host key of the guest's SSH server, so keep it secret.

    \b
    Examples:
      machine ignition box
      machine ignition box | ignition-validate -
    """
    from machine.ops.ignition import ignition

    click.echo(ignition(name, current_context()), nl=False)
