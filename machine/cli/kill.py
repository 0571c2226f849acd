"""The command `machine kill`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import chosen, for_each, names_argument

if TYPE_CHECKING:
    from machine.report import Reporter


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

    def end(name: str, report: Reporter) -> str:
        kill(name, context, report)
        return name

    for_each(
        chosen(names, "kill", everything=everything),
        end,
        lambda name: click.echo(f'Machine "{name}" killed successfully'),
    )
