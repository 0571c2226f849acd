"""The command `machine init`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from machine.cli import common
from machine.cli.common import (
    complete_from,
    complete_images,
    confirm,
    current_context,
    idle_suspend_option,
    member_of,
    native_ca_option,
    none_if_empty,
    update_connection_option,
    usb_option,
    volume_options,
    warn_about_networking,
)
from machine.cli.flags import WHOLE_NUMBER, Command
from machine.model.arch import Arch
from machine.model.config import DEFAULT_DISK_GIB, DEFAULT_IMAGE, DEFAULT_MEMORY_MIB, DEFAULT_USERNAME, Provisioning
from machine.model.host import AcceleratorChoice
from machine.model.image import ImageOptions
from machine.model.names import DEFAULT_MACHINE
from machine.model.provider import Provider

if TYPE_CHECKING:
    from machine.ops.init_first_boot import FirstBootRequest


_FIRST_BOOT_OPTIONS = (
    click.option(
        "--ignition-path",
        "ignition",
        metavar="FILE",
        help="Merge FILE, an Ignition config or a Butane file (.bu), into the machine's own. FILE takes precedence.",
    ),
    click.option(
        "--ignition-replace",
        "ignition_replaces",
        is_flag=True,
        default=None,
        help="Use the file of --ignition-path instead of the machine's own config.",
    ),
    click.option(
        "--provision",
        "scripts",
        multiple=True,
        metavar="[user:]SCRIPT",
        help="Run a script once, at the first start, as root, or with user: as the guest's user; can be repeated.",
    ),
    click.option(
        "--playbook", metavar="FILE", help="Run an Ansible playbook once, as the guest's user, after the scripts."
    ),
    click.option(
        "--env",
        "environment",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Set an environment variable for all programs in the guest.",
    ),
    click.option(
        "--ssh-authorized-key",
        "ssh_keys",
        multiple=True,
        metavar="KEY|FILE",
        help="Accept an additional public key for the guest's user.",
    ),
    click.option("--hostname", help="Host name of the guest. [default: the machine's name]"),
)


def first_boot_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for a guest's first boot. The command gets the options' values as `first_boot`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: object,
        ignition: str | None,
        ignition_replaces: bool | None,
        scripts: tuple[str, ...],
        playbook: str | None,
        environment: tuple[str, ...],
        ssh_keys: tuple[str, ...],
        hostname: str | None,
        **others: object,
    ) -> None:
        from machine.ops.init_first_boot import FirstBootRequest

        # As with Podman, an empty value counts as none.
        first_boot = FirstBootRequest(
            ignition=ignition or None,
            ignition_replaces=ignition_replaces,
            scripts=scripts or None,
            playbook=playbook or None,
            environment=environment or None,
            ssh_keys=ssh_keys or None,
            hostname=hostname or None,
        )
        command(*arguments, first_boot=first_boot, **others)

    for option in reversed(_FIRST_BOOT_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_REMOTE_OPTIONS = (
    click.option(
        "--host",
        metavar="[USER@]HOST[:PORT]",
        callback=none_if_empty,
        help="With --provider ssh: the host, as for ssh, whose configuration in ~/.ssh applies.",
    ),
    click.option("--identity", metavar="FILE", help="The private key that logs in to the host. [default: as for ssh]"),
    click.option("--proxy-command", metavar="CMD", help="Connect to the host by CMD, as with ssh's ProxyCommand."),
    click.option("--host-key", metavar="KEY", help="The host's public key. [default: that in ~/.ssh/known_hosts]"),
    click.option(
        "--accept-new-host-key",
        "accept_host_key",
        is_flag=True,
        default=None,
        help="Accept the key that the host has now, if none is known.",
    ),
    click.option("--install", is_flag=True, default=None, help="Ask to install and enable on the host what it lacks."),
)


def remote_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for a host over SSH. The command gets the options' values as `remote`."""

    @functools.wraps(command)
    def wrapped(*arguments: object, **others: object) -> None:
        names = ("host", "identity", "proxy_command", "host_key", "accept_host_key", "install")
        remote = {name: others.pop(name) or None for name in names}
        command(*arguments, remote=remote, **others)

    for option in reversed(_REMOTE_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@click.command("init", cls=Command)
@click.argument("name", required=False)
@click.option(
    "-f",
    "--file",
    metavar="FILE",
    callback=none_if_empty,
    help="Read options from a TOML file such as `machine export` prints; flags take precedence.",
)
@click.option(
    "--image",
    shell_complete=complete_images,
    help="The image: fcos:stable, fcos:testing or fcos:next, optionally with @RELEASE; boot2podman; one listed by "
    "`machine image catalogue`, such as debian:13; a path, an http(s) URL, or docker://REGISTRY/NAME:TAG. "
    f"[default: {DEFAULT_IMAGE}]",
)
@click.option(
    "--provisioning",
    type=click.Choice([choice.value for choice in Provisioning]),
    callback=member_of(Provisioning),
    metavar="HOW",
    help="How an image from a path or a URL is provisioned: ignition or cloud-init. [default: ignition]",
)
@click.option("--image-path", hidden=True, shell_complete=complete_images)
@common.image_options
@click.option("--cpus", type=WHOLE_NUMBER, help="Number of CPUs. [default: half of the host's]")
@click.option(
    "-m", "--memory", type=WHOLE_NUMBER, metavar="MIB", help=f"Memory in MiB. [default: {DEFAULT_MEMORY_MIB}]"
)
@click.option("--disk-size", type=WHOLE_NUMBER, metavar="GIB", help=f"Disk size in GiB. [default: {DEFAULT_DISK_GIB}]")
@click.option(
    "-s",
    "--swap",
    type=WHOLE_NUMBER,
    metavar="MIB",
    help="Size of the swap device in compressed memory (zram), in MiB.",
)
@click.option("--username", help=f"Name of the guest's user. [default: {DEFAULT_USERNAME}]")
@click.option("--timezone", help="Time zone of the guest. [default: local]")
@click.option(
    "--rootful/--rootless", default=None, help="Use rootful or rootless containers by default. [default: rootless]"
)
@click.option("--now", is_flag=True, help="Start the machine afterwards.")
@update_connection_option
@volume_options
@usb_option
@click.option(
    "--accel",
    type=click.Choice([choice.value for choice in AcceleratorChoice]),
    callback=member_of(AcceleratorChoice),
    help="The accelerator. A start uses $MACHINE_ACCEL instead, if that is set. [default: auto]",
)
@click.option(
    "--arch",
    metavar="ARCH",
    shell_complete=complete_from(Arch),
    help="Architecture of the guest; one that is not the host's is emulated. [default: the host's]",
)
@first_boot_options
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=none_if_empty,
    metavar="KEY[=VALUE]",
    help="Add a label, which machine ls and inspect show.",
)
@idle_suspend_option
@native_ca_option
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress.")
@click.option(
    "--provider",
    shell_complete=complete_from(Provider),
    help="qemu for a virtual machine, or ssh for a host that runs already. [default: qemu]",
)
@remote_options
@click.option("--user-mode-networking", is_flag=True, default=None, hidden=True)
def command(  # noqa: PLR0913, PLR0917  (one for each option)
    name: str | None,
    file: str | None,
    image: str | None,
    provisioning: Provisioning | None,
    image_path: str | None,
    cpus: int | None,
    memory: int | None,
    disk_size: int | None,
    swap: int | None,
    username: str | None,
    timezone: str | None,
    rootful: bool | None,
    now: bool,
    update_connection: bool | None,
    volumes: tuple[str, ...] | None,
    usbs: tuple[str, ...] | None,
    accel: AcceleratorChoice | None,
    arch: str | None,
    quiet: bool,
    image_options: ImageOptions,
    provider: str | None,
    volume_driver: str | None,
    mount_inotify: bool | None,
    user_mode_networking: bool | None,
    first_boot: FirstBootRequest,
    labels: tuple[str, ...] | None,
    idle_suspend: str | None,
    native_ca: bool | None,
    remote: Mapping[str, Any],
) -> None:
    """Initialize a virtual machine.

    Options that are left out get the values that `machine config get` shows. The built-in defaults are shown below.

    \b
    Examples:
      machine init --now --cpus 4 --memory 4096 --volume ~/src:/src:ro dev
      machine init -f box.toml
      machine init --image debian:13 --now deb
      machine init --provider ssh --host core@server.example --now server
    """
    from machine.cli.start import offer_connection
    from machine.cli.terminal import PlainReporter, reporter
    from machine.ops.init import init
    from machine.ops.init_request import InitRequest

    request = InitRequest(
        name=name,
        file=file,
        image=image if image is not None else image_path,
        image_options=image_options,
        cpus=cpus,
        memory_mib=memory,
        disk_gib=disk_size,
        swap_mib=swap,
        username=username,
        timezone=timezone,
        rootful=rootful,
        volumes=volumes,
        volume_driver=volume_driver,
        mount_inotify=mount_inotify,
        usbs=usbs,
        accelerator=accel,
        arch=arch,
        provider=provider,
        first_boot=first_boot,
        labels=labels,
        native_ca=native_ca,
        idle_suspend=idle_suspend,
        provisioning=provisioning,
        **remote,
    )
    if image_path is not None:
        click.echo("Flag --image-path has been deprecated, use --image instead", err=True)
    # A question to the user must not be drawn over.
    with PlainReporter() if request.install else reporter(quiet=quiet) as report:
        name = init(request, current_context(), report, agree=confirm).name
        warn_about_networking(report, wanted=user_mode_networking)
    click.echo("Machine init complete")
    if now:
        _start(name, quiet=quiet, update_connection=update_connection)
        return
    if update_connection:
        offer_connection(name, update_connection)
    suffix = "" if name == DEFAULT_MACHINE else f" {name}"
    click.echo(f"To start your machine run:\n\n\tmachine start{suffix}\n")


def _start(name: str, *, quiet: bool, update_connection: bool | None) -> None:
    from machine.cli.start import offer_connection, print_started
    from machine.cli.terminal import reporter
    from machine.ops.start import start

    click.echo(f'Starting machine "{name}"')
    with reporter(quiet=quiet) as report:
        started = start(name, current_context(), report)
    print_started(started)
    offer_connection(name, update_connection)
