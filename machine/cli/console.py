"""machine console"""

from __future__ import annotations

import click

from machine.cli.common import context, name_argument
from machine.cli.flags import Command


@click.command("console", cls=Command)
@name_argument()
def command(name: str) -> None:
    """Attach to the serial console of a running machine.

    Every key goes to the guest, ^C too; ctrl-] leaves. One at a time can be
    attached, from before the guest boots; `machine logs` has what was
    written before. No user of the guest has a password, so its login prompt lets
    nobody in: for a shell there is `machine ssh`.

    Input that is not typed is sent as it is; its end ends the command, half a
    second after the guest has read all of it.

    \b
    Examples:
      machine console box
      printf '\\n' | machine console box
    """
    from machine.cli.terminal import NoticeReporter
    from machine.ops.console import Ending, attach

    ending = attach(name, context(), NoticeReporter())
    match ending:
        case Ending.LEFT:
            click.echo(f"\nLeft the console of {name}", err=True)
        case Ending.CLOSED:
            click.echo(f"\nThe console of {name} has closed: the machine has ended", err=True)
        case Ending.INPUT_ENDED:
            pass
