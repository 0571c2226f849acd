"""machine upgrade and machine os"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from machine.cli.common import complete_machines, context, name_argument
from machine.cli.flags import Command, Group
from machine.errors import BadInputError, ProgramError
from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from machine.ops.upgrade import Upgraded


@click.command("upgrade", cls=Command)
@name_argument()
@click.option("--restart", is_flag=True, help="Restart the machine where the upgrade needs it.")
def command(name: str, restart: bool) -> None:
    """Upgrade the OS of a running machine: its image, or all of its packages.

    A guest that boots images, as Fedora CoreOS does, gets the newest one of its
    stream, for its next start. A guest of Debian's family, as boot2podman is,
    gets its packages upgraded at once; files that somebody has changed stay.
    An exit status of the guest's own tools is passed on.

    \b
    Examples:
      machine upgrade
      machine upgrade --restart box
    """
    from machine.cli.terminal import PlainReporter
    from machine.ops.upgrade import upgrade

    with _status_passed_on():
        upgraded = upgrade(name, context(), PlainReporter(), restart=restart)
    click.echo(f'Machine "{name}" upgraded successfully')
    _tell_of_restart(name, upgraded, restart=restart)


@click.group("os", cls=Group)
def os_group() -> None:
    """Change the OS image of a machine that boots images, as Fedora CoreOS does.

    `machine upgrade` upgrades any guest.

    \b
    Example:
      machine os upgrade --dry-run
    """


@os_group.command("apply")
@click.argument("image")
@click.argument("name", default=DEFAULT_MACHINE, shell_complete=complete_machines)
@click.option("--restart", is_flag=True, help="Restart the machine into the image.")
def apply(image: str, name: str, restart: bool) -> None:
    """Give a running machine another OS image, for its next start.

    IMAGE is the name of one in a registry, docker://NAME too; or, as the guest
    sees it, oci:PATH, oci-archive:PATH or containers-storage:NAME.

    \b
    Examples:
      machine os apply quay.io/fedora/fedora-coreos:stable
      machine os apply --restart oci-archive:/var/tmp/os.tar box
    """
    from machine.cli.terminal import PlainReporter
    from machine.ops.upgrade import apply_image

    with _status_passed_on():
        upgraded = apply_image(image, name, context(), PlainReporter(), restart=restart)
    _tell_of_restart(name, upgraded, restart=restart)


@os_group.command("upgrade")
@name_argument()
@click.option("-n", "--dry-run", is_flag=True, help="Only tell whether there is a newer image.")
@click.option("-f", "--format", "format_", metavar="json", help="Tell it as JSON; implies --dry-run.")
@click.option("--restart", is_flag=True, help="Restart the machine where there was a newer one.")
def upgrade_image(name: str, dry_run: bool, format_: str | None, restart: bool) -> None:
    """Get the newest of a running machine's OS image.

    It is used from the next start on; what was booted until then is kept beside
    it, for a rollback in the guest.

    \b
    Examples:
      machine os upgrade --dry-run
      machine os upgrade --restart box
    """
    from machine.cli.terminal import PlainReporter
    from machine.ops import upgrade as op

    if format_ is not None and format_ != "json":
        raise BadInputError("only value of `json` is supported")
    if restart and (dry_run or format_):
        raise BadInputError("--restart cannot be used with --dry-run or --format")
    with _status_passed_on():
        if dry_run or format_:
            check = op.check_upgrade(name, context())
            if format_:
                click.echo(json.dumps(op.check_document(check)))
            elif check.available:
                click.echo(f"Updating OS from {check.current_hash} to {check.new_hash}")
            else:
                click.echo(f'The OS of machine "{name}" is up to date')
            return
        upgraded = op.upgrade_image(name, context(), PlainReporter(), restart=restart)
    click.echo(f'Machine "{name}" upgraded successfully')
    _tell_of_restart(name, upgraded, restart=restart)


def _tell_of_restart(name: str, upgraded: Upgraded, *, restart: bool) -> None:
    if upgraded.restarted:
        click.echo(f'Machine "{name}" restarted successfully')
    elif upgraded.waits:
        click.echo(f"It takes a restart to use what is new: machine restart {name}")
    elif restart:
        click.echo("No restart is needed")


@contextlib.contextmanager
def _status_passed_on() -> Iterator[None]:
    """The exit status of what failed in the guest is ours, as with `machine ssh`."""
    try:
        yield
    except ProgramError as error:
        click.echo(f"Error: {error.line}", err=True)
        raise click.exceptions.Exit(error.returncode) from error
