"""The command `machine restart`."""

from __future__ import annotations

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import chosen, for_each, names_argument


@click.command("restart", cls=Command)
@names_argument
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress.")
def command(names: tuple[str, ...], everything: bool, quiet: bool) -> None:
    """Stop machines and start them again. Machines that are stopped are just started.

    \b
    Example:
      machine restart box
    """
    from machine.ops.restart import restart
    from machine.ops.shared.interrupt import Interrupt

    context = current_context()
    several = chosen(names, "restart", everything=everything)
    interrupt = Interrupt() if len(several) > 1 else None
    for_each(
        several,
        lambda name, report: restart(name, context, report, interrupt),
        lambda started: click.echo(f'Machine "{started.config.name}" restarted successfully'),
        quiet=quiet,
        interrupt=interrupt,
    )
