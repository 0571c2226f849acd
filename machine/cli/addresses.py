"""The commands `machine url`, `machine ip`, `machine active` and `machine ssh-config`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import Command


@click.command("url", cls=Command)
@name_argument()
@click.option(
    "--rootful/--rootless",
    default=None,
    help="Use the rootful or the rootless socket. [default: the machine's setting]",
)
def url(name: str, rootful: bool | None) -> None:
    """Print the URL of a machine's API socket on this host.

    \b
    Examples:
      podman --url "$(machine url box)" ps
      docker --host "$(machine url --rootful box)" ps
    """
    from machine.ops.addresses import url as machine_url

    click.echo(machine_url(name, current_context(), rootful=rootful))


@click.command("ip", cls=Command)
@name_argument()
def ip(name: str) -> None:
    """Print the address at which this host reaches a machine's published ports.

    \b
    Example:
      curl "http://$(machine ip box):8080/"
    """
    from machine.ops.addresses import ip as machine_ip

    click.echo(machine_ip(name, current_context()))


@click.command("active", cls=Command)
def active() -> None:
    """Print the name of the machine that clients use by default.

    \b
    Example:
      machine ssh "$(machine active)"
    """
    from machine.ops.addresses import active as active_machine

    click.echo(active_machine(current_context()))


@click.command("ssh-config", cls=Command)
@name_argument()
def ssh_config(name: str) -> None:
    """Print a block for ~/.ssh/config that lets ssh, scp and editors reach the guest.

    \b
    Example:
      machine ssh-config box >>~/.ssh/config && ssh machine-box
    """
    from machine.ops.addresses import ssh_config as block

    click.echo(block(name, current_context()), nl=False)
