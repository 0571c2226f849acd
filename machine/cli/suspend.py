"""The command `machine suspend`."""

from __future__ import annotations

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import change_each, chosen, names_argument


@click.command("suspend", cls=Command)
@names_argument
def command(names: tuple[str, ...], everything: bool) -> None:
    """Save the memory of running machines on disk and end their QEMU. A start continues where they were.

    Containers and other processes in the guest go on afterwards, but connections into the guest end.

    \b
    Examples:
      machine suspend box && machine start box
      machine suspend --all
    """
    from machine.ops.suspend import suspend

    context = current_context()
    selected = chosen(names, "suspend", everything=everything)
    change_each(selected, lambda name, report: suspend(name, context, report), "suspended")
