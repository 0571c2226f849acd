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

    A suspended machine keeps its memory, but clients do not wake it any more.

    \b
    Example:
      machine kill box
    """
    from machine.model.state import State
    from machine.ops.kill import kill

    context = current_context()
    selected = chosen(names, "kill", everything=everything)

    def kill_one(name: str, report: Reporter) -> str:
        if kill(name, context, report) is State.SUSPENDED:
            return (
                f'Machine "{name}" is still suspended, but clients do not wake it any more; to give its memory up: '
                f"machine start --cold {name}"
            )
        return f'Machine "{name}" killed successfully'

    for_each(selected, kill_one, click.echo)
