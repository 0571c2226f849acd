"""The command `machine rm`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, is_sure
from machine.cli.flags import Command
from machine.cli.many import chosen, for_each, names_argument, print_failure
from machine.errors import EXIT_ERROR, MachineError


@click.command("rm", cls=Command)
@names_argument
@click.option("-f", "--force", is_flag=True, help="Do not ask for confirmation, and stop running machines.")
@click.option(
    "--save-image", is_flag=True, help="Keep the disk as an image for machine init, and print the image's path."
)
@click.option("--save-ignition", is_flag=True, help="Keep the Ignition config, and print the file's path.")
def command(names: tuple[str, ...], everything: bool, force: bool, save_image: bool, save_ignition: bool) -> None:
    """Remove machines and everything in them. Protected machines are not removed.

    \b
    Examples:
      machine rm box
      machine rm --force box other
    """
    from machine.ops.rm import Kept, check_removable, files_to_remove, remove

    context = current_context()
    kept = Kept(disk=save_image, ignition=save_ignition)
    selected = chosen(names, "rm", everything=everything)
    removable = list(selected)
    if not force:
        for name in selected:
            try:
                check_removable(name, context)
            except MachineError as error:
                if len(selected) == 1:
                    raise
                print_failure(name, error)
                removable.remove(name)
        if removable:
            click.echo("The following files will be deleted:\n")
            for path in (path for name in removable for path in files_to_remove(name, context, kept)):
                click.echo(path)
            click.echo()
            if not is_sure():
                return
    for_each(
        removable,
        lambda name, report: remove(name, context, report, force=force, kept=kept),
        lambda _: None,
        steps=False,
    )
    if len(removable) < len(selected):
        raise click.exceptions.Exit(EXIT_ERROR)
