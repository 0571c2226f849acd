"""machine port"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from machine.cli.common import complete_machines, context, name_argument
from machine.cli.render import table

_FORWARD = "HOST:GUEST"


@click.group("port")
def command() -> None:
    """Forward ports of the host to a machine, besides those that its containers publish."""


@command.command("add")
@click.argument("name", shell_complete=complete_machines)
@click.argument("forward", metavar=_FORWARD)
def add(name: str, forward: str) -> None:
    """Forward a port or a Unix socket for good, at once where the machine runs.

    \b
    HOST is [IP:]PORT, or the absolute path of a socket that is to be;
    without IP, only this host reaches it. GUEST is PORT[/udp] or the
    path of a socket:
      machine port add box 8080:80
      machine port add box 0.0.0.0:5353:53/udp
      machine port add box /tmp/dbus.sock:/run/dbus/system_bus_socket
    """
    from machine.ops.ports import add_port

    add_port(name, forward, context())


@command.command("rm")
@click.argument("name", shell_complete=complete_machines)
@click.argument("forward", metavar=_FORWARD)
def rm(name: str, forward: str) -> None:
    """Take a forward back."""
    from machine.ops.ports import remove_port

    remove_port(name, forward, context())


@command.command("ls")
@name_argument()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def ls(name: str, form: str) -> None:
    """List everything on the host that leads into a machine."""
    from machine.ops.ports import list_ports

    ports = list_ports(name, context())
    if form == "json":
        click.echo(json.dumps([asdict(port) for port in ports], indent=2))
        return
    rows = [(port.host, port.guest, port.protocol, port.origin) for port in ports]
    click.echo(table([("HOST", "GUEST", "PROTOCOL", "ORIGIN"), *rows]), nl=False)
