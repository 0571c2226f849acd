"""The command `machine down`."""

from __future__ import annotations

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import collect, exit_if_failed
from machine.cli.tables import table
from machine.cli.up import file_names_argument, file_option


@click.command("down", cls=Command)
@file_names_argument
@file_option
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress.")
def command(names: tuple[str, ...], file: str | None, quiet: bool) -> None:
    """Stop the machines that a machines file describes, all of them or those that are named. None is removed.

    \b
    Examples:
      machine down
      machine down -f lab/machines.toml web
    """
    from machine.cli.terminal import NamedReporter
    from machine.ops.down import down
    from machine.ops.up_file import chosen_names, find_file, load_file

    context = current_context()
    machines_file = load_file(find_file(file, context.uid))
    selected = chosen_names(machines_file, names)
    results = collect(down(machines_file, selected, context, lambda name: NamedReporter(name, steps=not quiet)))
    rows = [(name, results[name].value or "failed") for name in selected]
    click.echo(table([("NAME", "RESULT"), *rows]), nl=False)
    exit_if_failed(results.values())
