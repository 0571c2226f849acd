"""The commands `machine upgrade` and `machine os`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from machine.cli.common import complete_machines, current_context, name_argument
from machine.cli.flags import Command, Group
from machine.errors import BadInputError, ProgramError
from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from machine.ops.upgrade import Upgraded


@click.command("upgrade", cls=Command)
@name_argument()
@click.option("--restart", is_flag=True, help="Restart the machine if the upgrade requires it.")
def command(name: str, restart: bool) -> None:
    """Upgrade the OS of a running machine by a new OS image or by new packages.

    A guest with an image-based OS, such as Fedora CoreOS, gets the newest image
    of its stream, and boots this image at the next start. In a guest of the
    Debian family, such as boot2podman, all packages are upgraded at once, and
    modified configuration files are kept. If the guest's tools fail, their exit
    status is returned.

    \b
    Examples:
      machine upgrade
      machine upgrade --restart box
    """
    from machine.cli.terminal import PlainReporter
    from machine.ops.upgrade import upgrade

    with _passing_on_status():
        upgraded = upgrade(name, current_context(), PlainReporter(), restart=restart)
    click.echo(f'Machine "{name}" upgraded successfully')
    _print_restart(name, upgraded, restart=restart)


@click.group("os", cls=Group)
def os_group() -> None:
    """Change the OS image of a machine that has an image-based OS, such as Fedora CoreOS.

    To upgrade any guest, use `machine upgrade`.

    \b
    Example:
      machine os upgrade --dry-run
    """


@os_group.command("apply")
@click.argument("image")
@click.argument("name", default=DEFAULT_MACHINE, shell_complete=complete_machines)
@click.option("--restart", is_flag=True, help="Restart the machine, so that it boots the image.")
def apply(image: str, name: str, restart: bool) -> None:
    """Switch a running machine to another OS image.

    The machine boots the image at its next start. IMAGE is in a registry (NAME or
    docker://NAME) or in the guest (oci:PATH, oci-archive:PATH or
    containers-storage:NAME).

    \b
    Examples:
      machine os apply quay.io/fedora/fedora-coreos:stable
      machine os apply --restart oci-archive:/var/tmp/os.tar box
    """
    from machine.cli.terminal import PlainReporter
    from machine.ops.upgrade import apply_image

    with _passing_on_status():
        upgraded = apply_image(image, name, current_context(), PlainReporter(), restart=restart)
    _print_restart(name, upgraded, restart=restart)


@os_group.command("upgrade")
@name_argument()
@click.option("-n", "--dry-run", is_flag=True, help="Only check whether there is a newer image.")
@click.option("-f", "--format", "format_", metavar="json", help="Print the check as JSON; implies --dry-run.")
@click.option("--restart", is_flag=True, help="Restart the machine if there was a newer image.")
def upgrade_image(name: str, dry_run: bool, format_: str | None, restart: bool) -> None:
    """Fetch the newest version of a running machine's OS image.

    The machine boots the new version at its next start. The current version is
    kept, so that the guest can be rolled back.

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
    with _passing_on_status():
        if dry_run or format_:
            check = op.check_upgrade(name, current_context())
            if format_:
                click.echo(json.dumps(op.check_document(check)))
            elif check.available:
                click.echo(f"Updating OS from {check.current_hash} to {check.new_hash}")
            else:
                click.echo(f'The OS of machine "{name}" is up to date')
            return
        upgraded = op.upgrade_image(name, current_context(), PlainReporter(), restart=restart)
    click.echo(f'Machine "{name}" upgraded successfully')
    _print_restart(name, upgraded, restart=restart)


def _print_restart(name: str, upgraded: Upgraded, *, restart: bool) -> None:
    if upgraded.restarted:
        click.echo(f'Machine "{name}" restarted successfully')
    elif upgraded.needs_restart:
        click.echo(f"Restart the machine to use the upgrade: machine restart {name}")
    elif restart:
        click.echo("No restart is needed")


@contextlib.contextmanager
def _passing_on_status() -> Iterator[None]:
    """If a program in the guest fails in the block, exit with that program's status, as `machine ssh` does."""
    try:
        yield
    except ProgramError as error:
        click.echo(f"Error: {error.line}", err=True)
        raise click.exceptions.Exit(error.returncode) from error
