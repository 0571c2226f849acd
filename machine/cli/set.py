"""The command `machine set`."""

from __future__ import annotations

import click

from machine.cli.common import (
    current_context,
    idle_suspend_option,
    name_argument,
    native_ca_option,
    usb_option,
    volume_options,
    warn_about_networking,
)
from machine.cli.flags import WHOLE_NUMBER, Command
from machine.errors import BadInputError


@click.command("set", cls=Command)
@name_argument()
@click.option("--cpus", type=WHOLE_NUMBER, help="Number of CPUs.")
@click.option("-m", "--memory", type=WHOLE_NUMBER, metavar="MIB", help="Memory in MiB.")
@click.option("--disk-size", type=WHOLE_NUMBER, metavar="GIB", help="Disk size in GiB; it can only grow.")
@click.option(
    "--rootful", is_flag=True, default=None, help="Use rootful containers by default. With =false, use rootless ones."
)
@usb_option
@volume_options
@idle_suspend_option
@native_ca_option
@click.option("--user-mode-networking", is_flag=True, default=None, hidden=True)
@click.option("--username", hidden=True)
def command(  # noqa: PLR0913, PLR0917  (one for each option)
    name: str,
    cpus: int | None,
    memory: int | None,
    disk_size: int | None,
    rootful: bool | None,
    usbs: tuple[str, ...] | None,
    volumes: tuple[str, ...] | None,
    volume_driver: str | None,
    mount_inotify: bool | None,
    idle_suspend: str | None,
    native_ca: bool | None,
    user_mode_networking: bool | None,
    username: str | None,
) -> None:
    """Change the settings of a stopped machine.

    Of a suspended machine, all settings but its CPUs, memory, disk and USB devices can be changed, too.

    \b
    Examples:
      machine set --cpus 4 --memory 4096
      machine set --rootful=false box
      machine set --volume ~/src:/src box
    """
    from machine.cli.terminal import NoticeReporter
    from machine.ops.set import SetRequest, set_machine

    if username is not None:
        raise BadInputError(
            "the username of a machine cannot be changed, because the home directory and containers belong to the user",
            hint="make a new machine with: machine init --username",
        )
    report = NoticeReporter()
    set_machine(
        name,
        SetRequest(
            cpus=cpus,
            memory_mib=memory,
            disk_gib=disk_size,
            rootful=rootful,
            usbs=usbs,
            volumes=volumes,
            volume_driver=volume_driver,
            mount_inotify=mount_inotify,
            native_ca=native_ca,
            idle_suspend=idle_suspend,
        ),
        current_context(),
        report,
    )
    warn_about_networking(report, wanted=user_mode_networking)
