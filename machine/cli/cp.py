"""machine cp"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import context, machines_beginning_with
from machine.cli.flags import Command

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_sides(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Complete machines, and files of this host."""
    from click.shell_completion import CompletionItem

    machines = [CompletionItem(f"{name}:") for name in machines_beginning_with(incomplete)]
    # Files first: in bash, this item discards the ones before it.
    return [CompletionItem(incomplete, type="file"), *machines]


@click.command("cp", cls=Command)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.argument("source", metavar="SRC", shell_complete=complete_sides)
@click.argument("destination", metavar="DEST", shell_complete=complete_sides)
def command(source: str, destination: str, quiet: bool) -> None:
    """Copy a file or a directory between this host and a running machine.

    Either SRC or DEST is NAME:PATH; a relative PATH starts at the user's home in the machine. Write ./PATH for a
    local path that contains a colon. If DEST is an existing directory, SRC is copied into it; otherwise DEST is the
    new name. Use - on the host's side for standard input or output.

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
        copy(source, destination, context(), report)
    if destination != STANDARD_STREAM:
        click.echo("Copy successful")
