"""The command `machine reset`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, is_sure
from machine.cli.flags import Command
from machine.cli.many import for_each

_WARNING = """\
Warning: this command will delete all existing Podman machines
and all of the configuration and data directories for Podman machines

The following machine(s) will be deleted:
"""


@click.command("reset", cls=Command)
@click.option("-f", "--force", is_flag=True, help="Do not ask for confirmation.")
def command(force: bool) -> None:
    """Remove all machines, including running ones, and the image cache.

    Settings, keys and images that were built on this host are kept.

    \b
    Example:
      machine reset --force
    """
    from machine.cli.tables import table
    from machine.ops.reset import check_resettable, clear_images, machines
    from machine.ops.rm import remove

    context = current_context()
    names = machines(context)
    check_resettable(names, context)
    if not force:
        click.echo(_WARNING)
        click.echo(table([("NAME", "PROVIDER"), *((name, "qemu") for name in names)], width=0, padding=3))
        if not is_sure():
            return
    for_each(names, lambda name, report: remove(name, context, report, force=True), lambda _: None, steps=False)
    clear_images(context)
