"""The command `machine logs`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import Command, WholeNumber


@click.command("logs", cls=Command)
@name_argument()
@click.option("--serial", "kind", flag_value="serial", help="Print the guest's serial console. This is the default.")
@click.option(
    "--supervisor", "kind", flag_value="supervisor", help="Print the log of the machine's background process."
)
@click.option("--qemu", "kind", flag_value="qemu", help="Print the messages of QEMU.")
@click.option("--ignition", "kind", flag_value="ignition", help="Print Ignition's journal of a failed first boot.")
@click.option("--previous", is_flag=True, help="Print the serial log of the previous start.")
@click.option("--tail", type=WholeNumber(minimum=0), metavar="N", help="Begin with the last N lines. [default: all]")
@click.option("-f", "--follow", is_flag=True, help="Keep printing what is added to the log.")
def command(name: str, kind: str | None, previous: bool, tail: int | None, follow: bool) -> None:
    """Print a log of a machine, whether it is running or not.

    On a terminal, all control sequences except colours are removed, and with
    NO_COLOR these, too. A pipe or a file gets every byte. --follow does not end when the machine stops, but goes
    on with the next start, until ^C.

    \b
    Examples:
      machine logs --tail 20
      machine logs --follow box
      machine logs --supervisor box | grep ' ERROR '
    """
    from machine.cli.terminal import NoticeReporter
    from machine.ops.logs import Log, read_log

    chosen = Log[kind.upper()] if kind else None
    context, report = current_context(), NoticeReporter()
    chunks = read_log(name, chosen, context, report, previous=previous, tail=tail, follow=follow)
    with contextlib.closing(chunks):
        if sys.stdout and sys.stdout.isatty():  # None where it was closed
            _show(chunks)
        else:
            for chunk in chunks:
                click.echo(chunk, nl=False)


def _show(chunks: Iterable[bytes]) -> None:
    from machine.cli.terminal import wants_colours
    from machine.model.console import SafeOutput

    console = SafeOutput(colours=wants_colours())
    try:
        for chunk in chunks:
            click.echo(console.feed(chunk), nl=False)
    finally:
        click.echo(console.end(), nl=False)
