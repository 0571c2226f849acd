"""machine rm"""

from __future__ import annotations

import click

from machine.cli.common import confirm, context, name_argument


@click.command("rm")
@name_argument()
@click.option("-f", "--force", is_flag=True, help="Do not ask, and stop the machine first if it runs.")
def command(name: str, force: bool) -> None:
    """Remove a machine with all that is in it."""
    from machine.cli.terminal import NoticeReporter
    from machine.ops.remove import check_removable, files_to_remove, remove

    here = context()
    if not force:
        check_removable(name, here)
        click.echo("The following files will be deleted:\n")
        for path in files_to_remove(name, here):
            click.echo(path)
        click.echo()
        if not confirm("Are you sure you want to continue?"):
            return
    remove(name, here, NoticeReporter(), force=force)
