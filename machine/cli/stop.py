"""machine stop, kill and restart"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import context
from machine.cli.flags import Command
from machine.cli.many import chosen, for_each, names_argument

if TYPE_CHECKING:
    from machine.report import Reporter


@click.command("stop", cls=Command)
@names_argument
def command(names: tuple[str, ...], everything: bool) -> None:
    """Stop machines: their power button, then QEMU's, then a signal.

    \b
    Examples:
      machine stop box
      machine stop --all
    """
    from machine.ops.stop import stop

    here = context()

    def end(name: str, report: Reporter) -> str:
        ending = stop(name, here, report)
        if ending.notice:
            report.notice(ending.notice)
        return name

    for_each(
        chosen(names, "stop", everything=everything),
        end,
        lambda name: click.echo(f'Machine "{name}" stopped successfully'),
    )


@click.command("kill", cls=Command)
@names_argument
def kill(names: tuple[str, ...], everything: bool) -> None:
    """End machines at once, as pulling the plug does; what a guest has not written to its disk is lost.

    \b
    Example:
      machine kill box
    """
    from machine.ops.stop import kill as kill_machine

    here = context()

    def end(name: str, report: Reporter) -> str:
        kill_machine(name, here, report)
        return name

    for_each(
        chosen(names, "kill", everything=everything),
        end,
        lambda name: click.echo(f'Machine "{name}" killed successfully'),
    )


@click.command("restart", cls=Command)
@names_argument
@click.option("-q", "--quiet", is_flag=True, help="Print only that the machine has restarted.")
def restart(names: tuple[str, ...], everything: bool, quiet: bool) -> None:
    """Stop machines and start them again; one that is stopped is started.

    \b
    Example:
      machine restart box
    """
    from machine.ops.restart import restart as restart_machine
    from machine.ops.shared.many import Interrupt

    here = context()
    several = chosen(names, "restart", everything=everything)
    interrupt = Interrupt() if len(several) > 1 else None
    for_each(
        several,
        lambda name, report: restart_machine(name, here, report, interrupt),
        lambda started: click.echo(f'Machine "{started.config.name}" restarted successfully'),
        quiet=quiet,
        interrupt=interrupt,
    )
