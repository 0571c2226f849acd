"""machine init"""

from __future__ import annotations

from typing import Any

import click

from machine.cli.common import (
    context,
    image_options,
    refuse_native_ca,
    tell_networking,
    update_connection_option,
    usb_option,
)
from machine.cli.flags import WHOLE_NUMBER, Command
from machine.errors import BadInputError
from machine.model.config import DEFAULT_DISK_GIB, DEFAULT_IMAGE, DEFAULT_MEMORY_MIB, DEFAULT_USERNAME, Provisioning
from machine.model.host import AcceleratorChoice
from machine.model.names import DEFAULT_MACHINE

# What Podman's has and this one has not, and what to do instead.
_REFUSED = {
    "ignition_path": (
        "--ignition-path is not supported by this version: a machine needs the Ignition config that is made for it",
        "leave it out, and change the guest over machine ssh",
    ),
    "playbook": (
        "--playbook is not supported by this version: no guest of this program has Ansible",
        "run it from this host, by the block that machine ssh-config prints",
    ),
}


@click.command("init", cls=Command)
@click.argument("name", default=DEFAULT_MACHINE)
@click.option(
    "--image",
    help="fcos:stable, fcos:testing, fcos:next, one of these with @RELEASE, boot2podman, one of `machine image "
    f"catalogue` such as debian:13, a path, an http(s) URL or docker://REGISTRY/NAME:TAG. [default: {DEFAULT_IMAGE}]",
)
@click.option(
    "--provisioning",
    type=click.Choice([choice.value for choice in Provisioning]),
    metavar="HOW",
    help="What an image at a path or a URL reads at its first boot, ignition or cloud-init. [default: ignition]",
)
@click.option("--image-path", hidden=True)
@image_options
@click.option("--cpus", type=WHOLE_NUMBER, help="Number of CPUs. [default: half of the host's]")
@click.option(
    "-m", "--memory", type=WHOLE_NUMBER, metavar="MIB", help=f"Memory in MiB. [default: {DEFAULT_MEMORY_MIB}]"
)
@click.option("--disk-size", type=WHOLE_NUMBER, metavar="GIB", help=f"Disk size in GiB. [default: {DEFAULT_DISK_GIB}]")
@click.option("-s", "--swap", type=WHOLE_NUMBER, metavar="MIB", default=0, help="Swap in MiB, in compressed memory.")
@click.option("--username", help=f"Name of the guest's user. [default: {DEFAULT_USERNAME}]")
@click.option("--timezone", help="Time zone of the guest. [default: local]")
@click.option(
    "--rootful/--rootless", default=None, help="Prefer root's containers to the user's, or not. [default: rootless]"
)
@click.option("--now", is_flag=True, help="Start the machine when it is made.")
@update_connection_option
@click.option("-v", "--volume", "volumes", multiple=True, metavar="SRC[:DST]", help="Not supported yet.")
@usb_option
@click.option(
    "--accel",
    type=click.Choice([choice.value for choice in AcceleratorChoice]),
    help="What runs the guest's code; at a start, $MACHINE_ACCEL overrules it. [default: auto]",
)
@click.option(
    "--arch", metavar="ARCH", help="Architecture of the guest; a foreign one is emulated. [default: the host's]"
)
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
@click.option("--provider", hidden=True)
@click.option("--volume-driver", hidden=True)
@click.option("--user-mode-networking", is_flag=True, default=None, hidden=True)
@click.option("--import-native-ca", is_flag=True, hidden=True)
@click.option("--ignition-path", hidden=True)
@click.option("--playbook", hidden=True)
def command(  # noqa: PLR0913, PLR0917  (one for each option)
    name: str,
    image: str | None,
    provisioning: str | None,
    image_path: str | None,
    cpus: int | None,
    memory: int | None,
    disk_size: int | None,
    swap: int,
    username: str | None,
    timezone: str | None,
    rootful: bool | None,
    now: bool,
    update_connection: bool | None,
    volumes: tuple[str, ...],
    usbs: tuple[str, ...],
    accel: str | None,
    arch: str | None,
    quiet: bool,
    options: dict[str, Any],
    provider: str | None,
    volume_driver: str | None,
    user_mode_networking: bool | None,
    import_native_ca: bool,
    **refused: str | None,
) -> None:
    """Initialize a virtual machine.

    What is left out is what `machine config get` shows; the defaults below hold where no file says otherwise.

    \b
    Examples:
      machine init
      machine init --now --cpus 4 --memory 4096 dev
      machine init --image boot2podman box
      machine init --image debian:13 --now deb
    """
    from machine.cli.start import offer_connection, print_started
    from machine.cli.terminal import reporter
    from machine.ops.init import InitRequest, init

    for flag, (problem, advice) in _REFUSED.items():
        if refused[flag]:
            raise BadInputError(problem, hint=advice)
    refuse_native_ca(wanted=import_native_ca)
    request = InitRequest(
        name=name,
        image=image if image is not None else image_path,
        image_options=options,
        cpus=cpus,
        memory_mib=memory,
        disk_gib=disk_size,
        swap_mib=swap,
        username=username,
        timezone=timezone,
        rootful=rootful,
        volumes=volumes or None,
        usbs=usbs,
        accelerator=AcceleratorChoice(accel) if accel else None,
        arch=arch,
        provider=provider,
        provisioning=Provisioning(provisioning) if provisioning else None,
    )
    here = context()
    if image_path is not None:
        click.echo("Flag --image-path has been deprecated, use --image instead", err=True)
    if volume_driver is not None:
        click.echo("Flag --volume-driver has been deprecated, will be ignored", err=True)
    with reporter(quiet=quiet) as report:
        init(request, here, report)
        tell_networking(report, wanted=user_mode_networking)
    click.echo("Machine init complete")
    if now:
        from machine.ops.start import start

        click.echo(f'Starting machine "{name}"')
        with reporter(quiet=quiet) as report:
            started = start(name, here, report)
        print_started(started)
        offer_connection(name, update_connection)
        return
    if update_connection:
        offer_connection(name, update_connection)
    suffix = "" if name == DEFAULT_MACHINE else f" {name}"
    click.echo(f"To start your machine run:\n\n\tmachine start{suffix}\n")
