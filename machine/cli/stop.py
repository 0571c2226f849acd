"""machine stop"""

from __future__ import annotations

import click

from machine.cli.common import context, name_argument


@click.command("stop")
@name_argument()
def command(name: str) -> None:
    """Stop a machine: its power button, then QEMU's, then a signal."""
    from machine.cli.terminal import reporter
    from machine.ops.stop import stop

    with reporter() as report:
        ending = stop(name, context(), report)
        if ending.notice:
            report.notice(ending.notice)
    click.echo(f'Machine "{name}" stopped successfully')
