"""The command `machine port`."""

from __future__ import annotations

import click

from machine.cli.common import complete_machines, current_context, listing_options, name_argument
from machine.cli.flags import Group
from machine.cli.formats import flat_listing, print_listing

FIELDS = ("Host", "Guest", "Protocol", "Origin", "State")


@click.group("port", cls=Group)
def command() -> None:
    """Forward ports of the host to a machine, in addition to those that its containers publish.

    \b
    Examples:
      machine port add box 8080:80
      machine port ls box
    """


@command.command("add")
@click.argument("name", shell_complete=complete_machines)
@click.argument("forward", metavar="HOST:GUEST")
def add(name: str, forward: str) -> None:
    """Forward a port or a Unix socket of the host to a machine.

    A running machine gets the forward at once.

    HOST is [IP:]PORT, or the absolute path of a socket to create on this host.
    Without IP, only this host can connect. As IP, * stands for every address.
    GUEST is PORT[/udp], or the absolute path of a socket in the guest.

    \b
    Examples:
      machine port add box 8080:80
      machine port add box '*:5353:53/udp'
      machine port add box /tmp/dbus.sock:/run/dbus/system_bus_socket
    """
    from machine.cli.terminal import reporter
    from machine.ops.port import add_port

    with reporter() as report:
        add_port(name, forward, current_context(), report)


@command.command("rm")
@click.argument("name", shell_complete=complete_machines)
@click.argument("forward", metavar="HOST[:GUEST]")
def rm(name: str, forward: str) -> None:
    """Remove a forward that was made with `machine port add`.

    \b
    Examples:
      machine port rm box 8080
      machine port rm box '*:5353/udp'
    """
    from machine.cli.terminal import reporter
    from machine.ops.port import remove_port

    with reporter() as report:
        remove_port(name, forward, current_context(), report)


@command.command("ls")
@name_argument()
@listing_options
def ls(name: str, format_: str | None, noheading: bool) -> None:
    """List the ports and sockets of the host that are forwarded to a machine.

    \b
    Examples:
      machine port ls box
      machine port ls box --format '{{.Host}}'
    """
    from machine.ops.port import list_ports

    rows = [
        (port.host, port.guest, port.protocol, port.origin, port.status.reason or port.status.state.value)
        for port in list_ports(name, current_context())
    ]
    print_listing(flat_listing("machine.Port", FIELDS, rows), format_, heading=not noheading)
