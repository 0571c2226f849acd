"""machine ignition"""

from __future__ import annotations

import click

from machine.cli.common import context, name_argument
from machine.cli.flags import Command


@click.command("ignition", cls=Command)
@name_argument()
def command(name: str) -> None:
    """Print the Ignition config that a machine's guest gets at its first boot.

    It has the private key of the guest's SSH server: show it to nobody who may not be that guest.

    \b
    Examples:
      machine ignition box
      machine ignition box | ignition-validate -
    """
    from machine.ops.ignition import ignition

    click.echo(ignition(name, context()), nl=False)
