"""The command `machine cp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import current_context, machines_beginning_with
from machine.cli.flags import Command

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_sides(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Complete an argument to `NAME:` with the name of a machine, or to the path of a file on this host."""
    from click.shell_completion import CompletionItem

    machines = [CompletionItem(f"{name}:") for name in machines_beginning_with(incomplete)]
    # Files come first, because in bash this item discards the items before it.
    return [CompletionItem(incomplete, type="file"), *machines]


@click.command("cp", cls=Command)
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress.")
@click.argument("source", metavar="SRC", shell_complete=complete_sides)
@click.argument("destination", metavar="DEST", shell_complete=complete_sides)
def command(source: str, destination: str, quiet: bool) -> None:
    """Copy a file or a directory between this host and a running machine.

    Either SRC or DEST is NAME:PATH, and the other is a path on this host. A relative PATH starts at the home directory
    of the machine's user. Write ./PATH for a path on this host that contains a colon. If DEST is an existing directory,
    SRC is copied into DEST. Otherwise, DEST is the new name. Instead of a path on this host, - stands for standard
    input or output.

    \b
    Examples:
      machine cp notes.txt box:.
      machine cp box:/etc/containers ./from-the-guest
      tar c src | machine cp - box:src.tar
    """
    from machine.cli.terminal import reporter
    from machine.model.transfer import STANDARD_STREAM
    from machine.ops.cp import copy

    with reporter(quiet=quiet) as report:
        copy(source, destination, current_context(), report)
    if destination != STANDARD_STREAM:
        click.echo("Copy successful")
