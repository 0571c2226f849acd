"""The command `machine autostart`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import Group


@click.group("autostart", cls=Group)
def command() -> None:
    """Choose whether a machine starts when you log in.

    A systemd service on Linux, or a launchd agent on macOS, starts the machine. No machine is started or stopped now.

    \b
    Examples:
      machine autostart enable box
      machine autostart disable box
    """


@command.command("enable")
@name_argument()
@click.option("--on-demand", is_flag=True, help="Start the machine when its first client connects, and not at once.")
def enable(name: str, *, on_demand: bool) -> None:
    """Start a machine at every login.

    The service keeps a copy of the environment variables that a start depends on, such as PATH and the proxies. After
    changing one of these variables, run this command again.

    \b
    Example:
      machine autostart enable box
    """
    from machine.cli.terminal import reporter
    from machine.ops.autostart import enable as enable_service

    with reporter() as report:
        path = enable_service(name, current_context(), report, on_demand=on_demand)
    when = "waits for its first client from your login on" if on_demand else "starts when you log in"
    click.echo(f'Machine "{name}" {when}: {path}')


@command.command("disable")
@name_argument()
def disable(name: str) -> None:
    """Stop starting a machine at login.

    \b
    Example:
      machine autostart disable box
    """
    from machine.ops.autostart import disable as disable_service

    was_enabled = disable_service(name, current_context())
    click.echo(f'Machine "{name}" {"no longer starts" if was_enabled else "does not start"} when you log in')
