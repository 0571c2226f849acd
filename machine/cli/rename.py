"""The command `machine rename`."""

from __future__ import annotations

import click

from machine.cli.common import complete_machines, current_context
from machine.cli.flags import Command


@click.command("rename", cls=Command)
@click.argument("old", metavar="NAME", shell_complete=complete_machines)
@click.argument("new", metavar="NEW_NAME")
def command(old: str, new: str) -> None:
    """Rename a stopped machine, with its connections and its Docker context.

    \b
    Example:
      machine rename box builder
    """
    from machine.cli.terminal import NoticeReporter
    from machine.ops.rename import rename

    rename(old, new, current_context(), NoticeReporter())
