"""The command `machine clone`."""

from __future__ import annotations

import click

from machine.cli.common import complete_machines, current_context
from machine.cli.flags import Command


@click.command("clone", cls=Command)
@click.argument("source", metavar="NAME", shell_complete=complete_machines)
@click.argument("name", metavar="NEW_NAME")
@click.option("--snapshot", metavar="SNAPSHOT", help="Copy the machine as it was at this snapshot.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress.")
def command(source: str, name: str, snapshot: str | None, quiet: bool) -> None:
    """Copy a stopped machine with everything on its disk.

    The clone gets its own keys, host key, machine ID, host name, ports and connections. The two machines are
    independent. They can run at the same time, each accepts only its own key, and each can be removed.

    \b
    Examples:
      machine clone box twin
      machine clone --snapshot snapshot1 box twin
    """
    from machine.cli.terminal import reporter
    from machine.ops.clone import clone

    with reporter(quiet=quiet) as report:
        clone(source, name, current_context(), report, snapshot=snapshot)
    click.echo(f'Machine "{source}" cloned to "{name}"')
    click.echo(f"To start your machine run:\n\n\tmachine start {name}\n")
