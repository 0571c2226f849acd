"""The command `machine console`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import Command


@click.command("console", cls=Command)
@name_argument()
def command(name: str) -> None:
    """Attach to the serial console of a running machine.

    All keys go to the guest, including ^C. Press ctrl-] to leave. You can attach
    while the guest boots, but only one command at a time can be attached to a
    machine. `machine logs` shows earlier output. You cannot log in here, because
    no user of the guest has a password. For a shell, use `machine ssh`.

    Input from a pipe or a file is sent unchanged. The command ends half a second
    after the guest has read all input.

    \b
    Examples:
      machine console box
      printf '\\n' | machine console box
    """
    from machine.cli.terminal import NoticeReporter
    from machine.ops.console import Ending, attach

    ending = attach(name, current_context(), NoticeReporter())
    match ending:
        case Ending.LEFT:
            click.echo(f"\nLeft the console of {name}", err=True)
        case Ending.CLOSED:
            click.echo(f"\nThe console of {name} has closed, because the machine has stopped", err=True)
        case Ending.INPUT_ENDED:
            pass
