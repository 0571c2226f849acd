"""machine init"""

from __future__ import annotations

from typing import Any

import click

from machine.cli.common import context, image_options
from machine.cli.flags import WHOLE_NUMBER, Command
from machine.model.config import DEFAULT_DISK_GIB, DEFAULT_IMAGE, DEFAULT_MEMORY_MIB, DEFAULT_USERNAME
from machine.model.host import AcceleratorChoice
from machine.model.names import DEFAULT_MACHINE


@click.command("init", cls=Command)
@click.argument("name", default=DEFAULT_MACHINE)
@click.option(
    "--image",
    help="fcos:stable, fcos:testing, fcos:next, one of these with @RELEASE, boot2podman, a path, an http(s) URL or "
    f"docker://REGISTRY/NAME:TAG. [default: {DEFAULT_IMAGE}]",
)
@image_options
@click.option("--cpus", type=WHOLE_NUMBER, help="Number of CPUs. [default: half of the host's]")
@click.option(
    "-m", "--memory", type=WHOLE_NUMBER, metavar="MIB", help=f"Memory in MiB. [default: {DEFAULT_MEMORY_MIB}]"
)
@click.option("--disk-size", type=WHOLE_NUMBER, metavar="GIB", help=f"Disk size in GiB. [default: {DEFAULT_DISK_GIB}]")
@click.option("--username", help=f"Name of the guest's user. [default: {DEFAULT_USERNAME}]")
@click.option("--timezone", help="Time zone of the guest. [default: local]")
@click.option(
    "--rootful/--rootless", default=None, help="Prefer root's containers to the user's, or not. [default: rootless]"
)
@click.option("--now", is_flag=True, help="Start the machine when it is made.")
@click.option("-v", "--volume", "volumes", multiple=True, metavar="SRC[:DST]", help="Not supported yet.")
@click.option(
    "--accel",
    type=click.Choice([choice.value for choice in AcceleratorChoice]),
    help="What runs the guest's code; at a start, $MACHINE_ACCEL overrules it. [default: auto]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def command(  # noqa: PLR0913, PLR0917  (one for each option)
    name: str,
    image: str | None,
    cpus: int | None,
    memory: int | None,
    disk_size: int | None,
    username: str | None,
    timezone: str | None,
    rootful: bool | None,
    now: bool,
    volumes: tuple[str, ...],
    accel: str | None,
    quiet: bool,
    options: dict[str, Any],
) -> None:
    """Initialize a virtual machine.

    What is left out is what `machine config get` shows; the defaults below hold where no file says otherwise.

    \b
    Examples:
      machine init
      machine init --now --cpus 4 --memory 4096 dev
      machine init --image boot2podman box
    """
    from machine.cli.start import print_started
    from machine.cli.terminal import reporter
    from machine.ops.init import InitRequest, init

    request = InitRequest(
        name=name,
        image=image,
        image_options=options,
        cpus=cpus,
        memory_mib=memory,
        disk_gib=disk_size,
        username=username,
        timezone=timezone,
        rootful=rootful,
        volumes=volumes or None,
        accelerator=AcceleratorChoice(accel) if accel else None,
    )
    here = context()
    with reporter(quiet=quiet) as report:
        init(request, here, report)
    click.echo("Machine init complete")
    if now:
        from machine.ops.start import start

        click.echo(f'Starting machine "{name}"')
        with reporter(quiet=quiet) as report:
            started = start(name, here, report)
        print_started(started)
    else:
        suffix = "" if name == DEFAULT_MACHINE else f" {name}"
        click.echo(f"To start your machine run:\n\n\tmachine start{suffix}\n")
