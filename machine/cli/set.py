"""machine set, rename, clone, protect and unprotect"""

from __future__ import annotations

import click

from machine.cli.common import (
    complete_machines,
    context,
    name_argument,
    native_ca_option,
    tell_networking,
    usb_option,
    volume_options,
)
from machine.cli.flags import WHOLE_NUMBER, Command
from machine.cli.many import chosen, for_each, names_argument
from machine.errors import BadInputError


@click.command("set", cls=Command)
@name_argument()
@click.option("--cpus", type=WHOLE_NUMBER, help="Number of CPUs.")
@click.option("-m", "--memory", type=WHOLE_NUMBER, metavar="MIB", help="Memory in MiB.")
@click.option("--disk-size", type=WHOLE_NUMBER, metavar="GIB", help="Disk size in GiB; a disk can only grow.")
@click.option("--rootful", is_flag=True, default=None, help="Prefer root's containers, with =false the user's.")
@usb_option
@volume_options
@native_ca_option
@click.option("--user-mode-networking", is_flag=True, default=None, hidden=True)
@click.option("--username", hidden=True)
def command(  # noqa: PLR0913, PLR0917  (one for each option)
    name: str,
    cpus: int | None,
    memory: int | None,
    disk_size: int | None,
    rootful: bool | None,
    usbs: tuple[str, ...],
    volumes: tuple[str, ...],
    volume_driver: str | None,
    mount_inotify: bool | None,
    native_ca: bool | None,
    user_mode_networking: bool | None,
    username: str | None,
) -> None:
    """Change a stopped machine: all that is asked for, or nothing.

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
            "the username of a machine cannot be changed: its home and its containers belong to it",
            hint="make another machine with: machine init --username",
        )
    report = NoticeReporter()
    set_machine(
        name,
        SetRequest(
            cpus=cpus,
            memory_mib=memory,
            disk_gib=disk_size,
            rootful=rootful,
            usbs=usbs or None,
            volumes=volumes or None,
            volume_driver=volume_driver,
            mount_inotify=mount_inotify,
            native_ca=native_ca,
        ),
        context(),
        report,
    )
    tell_networking(report, wanted=user_mode_networking)


@click.command("rename", cls=Command)
@click.argument("old", metavar="NAME", shell_complete=complete_machines)
@click.argument("new", metavar="NEW_NAME")
def rename(old: str, new: str) -> None:
    """Give a stopped machine another name; its connections and its Docker context follow.

    \b
    Example:
      machine rename box builder
    """
    from machine.cli.terminal import NoticeReporter
    from machine.ops.rename import rename as rename_machine

    rename_machine(old, new, context(), NoticeReporter())


@click.command("clone", cls=Command)
@click.argument("source", metavar="NAME", shell_complete=complete_machines)
@click.argument("name", metavar="NEW_NAME")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def clone(source: str, name: str, quiet: bool) -> None:
    """Make another machine of one that is stopped, with all that its guest has on its disk.

    The clone has keys, a host key, a machine-id, a host name, ports and connections of its own: neither machine's key
    opens the other, both can run at once, and either can be removed.

    \b
    Example:
      machine clone box twin
    """
    from machine.cli.terminal import reporter
    from machine.ops.clone import clone as clone_machine

    with reporter(quiet=quiet) as report:
        clone_machine(source, name, context(), report)
    click.echo(f'Machine "{name}" is a clone of "{source}"')
    click.echo(f"To start your machine run:\n\n\tmachine start {name}\n")


@click.command("protect", cls=Command)
@names_argument
def protect(names: tuple[str, ...], everything: bool) -> None:
    """Keep a machine from being removed, by rm and by reset.

    \b
    Example:
      machine protect box
      machine protect --all
    """
    _protect(chosen(names, "protect", everything=everything), protected=True)


@click.command("unprotect", cls=Command)
@names_argument
def unprotect(names: tuple[str, ...], everything: bool) -> None:
    """Let a machine be removed again.

    \b
    Example:
      machine unprotect box && machine rm box
    """
    _protect(chosen(names, "unprotect", everything=everything), protected=False)


def _protect(names: list[str], *, protected: bool) -> None:
    from machine.ops.protect import protect as change

    here = context()
    for_each(names, lambda name, _: change(name, here, protected=protected), lambda _: None, in_turn=True)
