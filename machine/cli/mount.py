"""The command `machine mount`."""

from __future__ import annotations

import click

from machine.cli.common import complete_machines, current_context, listing_options, name_argument
from machine.cli.flags import Group
from machine.cli.formats import flat_listing, print_listing

FIELDS = ("Source", "Target", "Mode", "Driver", "Problem")


@click.group("mount", cls=Group)
def command() -> None:
    """Share folders of the host with a machine, even while it runs.

    \b
    Examples:
      machine mount add box ~/src:/src
      machine mount ls box
    """


@command.command("add")
@click.argument("name", shell_complete=complete_machines)
@click.argument("folder", metavar="SRC[:DST[:ro]]")
def add(name: str, folder: str) -> None:
    """Share a folder of the host with a machine.

    A running machine gets the folder at once, over SSH. The machine's next start
    may choose a faster transport.

    \b
    Examples:
      machine mount add box ~/src:/src
      machine mount add box /srv/data:/data:ro
    """
    from machine.cli.terminal import reporter
    from machine.ops.mount import add_mount

    with reporter() as report:
        add_mount(name, folder, current_context(), report)


@command.command("rm")
@click.argument("name", shell_complete=complete_machines)
@click.argument("target", metavar="DST")
def rm(name: str, target: str) -> None:
    """Stop sharing the folder that is mounted at DST in the guest.

    \b
    Example:
      machine mount rm box /src
    """
    from machine.cli.terminal import reporter
    from machine.ops.mount import remove_mount

    with reporter() as report:
        remove_mount(name, target, current_context(), report)


@command.command("ls")
@name_argument()
@listing_options
def ls(name: str, format_: str | None, noheading: bool) -> None:
    """List the folders that the host shares with a machine.

    \b
    Examples:
      machine mount ls box
      machine mount ls box --format '{{.Target}}'
    """
    from machine.ops.mount import list_mounts

    rows = [
        (folder.source, folder.target, folder.mode, folder.driver or "", folder.problem or "")
        for folder in list_mounts(name, current_context())
    ]
    print_listing(flat_listing("machine.Mount", FIELDS, rows), format_, heading=not noheading)
