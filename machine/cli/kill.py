"""The command `machine kill`."""

from __future__ import annotations

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import change_each, chosen, names_argument


@click.command("kill", cls=Command)
@names_argument
def command(names: tuple[str, ...], everything: bool) -> None:
    """Turn machines off at once, like pulling the plug. Data that a guest has not written to its disk is lost.

    \b
    Example:
      machine kill box
    """
    from machine.ops.kill import kill

    context = current_context()
    selected = chosen(names, "kill", everything=everything)
    change_each(selected, lambda name, report: kill(name, context, report), "killed")
