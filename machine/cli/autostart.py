"""machine autostart"""

from __future__ import annotations

import click

from machine.cli.common import context, name_argument
from machine.cli.flags import Group


@click.group("autostart", cls=Group)
def command() -> None:
    """Start a machine when you log in, or no longer.

    It is a service of systemd's on Linux and of launchd's on macOS. Neither command starts or stops a machine now.

    \b
    Examples:
      machine autostart enable box
      machine autostart disable box
    """


@command.command("enable")
@name_argument()
def enable(name: str) -> None:
    """Start the machine at every login from now on.

    The service keeps PATH, the proxies and what else a start depends on as they are now: when they have changed, this
    command takes them over.

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
    """Start the machine at login no longer.

    \b
    Example:
      machine autostart disable box
    """
    from machine.cli.terminal import reporter
    from machine.ops.autostart import disable as disable_service

    with reporter() as report:
        did = disable_service(name, context(), report)
    click.echo(f'Machine "{name}" {"no longer starts" if did else "does not start"} when you log in')
