"""The command `machine stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import change_each, chosen, names_argument

if TYPE_CHECKING:
    from machine.report import Reporter


@click.command("stop", cls=Command)
@names_argument
def command(names: tuple[str, ...], everything: bool) -> None:
    """Stop machines by pressing their power buttons. If a guest does not react, end its QEMU.

    \b
    Examples:
      machine stop box
      machine stop --all
    """
    from machine.ops.stop import stop

    context = current_context()

    def end(name: str, report: Reporter) -> None:
        ending = stop(name, context, report)
        if ending.notice:
            report.notice(ending.notice)

    change_each(chosen(names, "stop", everything=everything), end, "stopped")
