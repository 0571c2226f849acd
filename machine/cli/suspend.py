"""The command `machine suspend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import chosen, for_each, names_argument

if TYPE_CHECKING:
    from machine.report import Reporter


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

    def save(name: str, report: Reporter) -> str:
        suspend(name, context, report)
        return name

    for_each(
        chosen(names, "suspend", everything=everything),
        save,
        lambda name: click.echo(f'Machine "{name}" suspended successfully'),
    )
