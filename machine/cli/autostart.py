"""machine autostart"""

from __future__ import annotations

import click

from machine.cli.common import context, name_argument
from machine.cli.flags import Group


@click.group("autostart", cls=Group)
def command() -> None:
    """Choose whether a machine starts when you log in.

    Uses a systemd service on Linux and a launchd agent on macOS. Neither command starts or stops a machine now.

    \b
    Examples:
      machine autostart enable box
      machine autostart disable box
    """


@command.command("enable")
@name_argument()
def enable(name: str) -> None:
    """Start a machine at every login.

    The service keeps a copy of PATH, the proxy variables and everything else that a start depends on. Run this
    command again when they have changed.

    \b
    Example:
      machine autostart enable box
    """
    from machine.cli.terminal import reporter
    from machine.ops.autostart import enable as enable_service

    with reporter() as report:
        path = enable_service(name, context(), report)
    click.echo(f'Machine "{name}" starts when you log in: {path}')


@command.command("disable")
@name_argument()
def disable(name: str) -> None:
    """Stop starting a machine at login.

    \b
    Example:
      machine autostart disable box
    """
    from machine.cli.terminal import reporter
    from machine.ops.autostart import disable as disable_service

    with reporter() as report:
        did = disable_service(name, context(), report)
    click.echo(f'Machine "{name}" {"no longer starts" if did else "does not start"} when you log in')
