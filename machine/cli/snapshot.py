"""The command `machine snapshot`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from machine.cli.common import (
    complete_machines,
    current_context,
    format_option,
    is_sure,
    name_argument,
    noheading_option,
)
from machine.cli.flags import Group
from machine.cli.formats import Listing, print_listing
from machine.cli.tables import human_size
from machine.model.state import State
from machine.model.units import ago
from machine.ops.shared.times import rfc3339

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from machine.model.snapshot import Snapshot

FIELDS = ("Name", "Created", "State", "Memory", "Comment")


def complete_snapshots(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Complete the name of a snapshot of the machine that is typed before it."""
    from click.shell_completion import CompletionItem

    from machine.ops.shared.completion import snapshot_names

    names = snapshot_names(str(ctx.params.get("name") or ""), current_context())
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


machine_argument = click.argument("name", shell_complete=complete_machines)
snapshot_argument = click.argument("snapshot", shell_complete=complete_snapshots)


@click.group("snapshot", cls=Group)
def command() -> None:
    """Keep states of a machine with its disk and memory, and return to them.

    \b
    Examples:
      machine snapshot create box
      machine snapshot ls box
      machine snapshot restore box snapshot1
    """


@command.command("create")
@machine_argument
@click.argument("snapshot", required=False)
@click.option("-m", "--message", "comment", metavar="TEXT", help="A comment that `machine snapshot ls` shows.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the snapshot's name.")
def create(name: str, snapshot: str | None, comment: str | None, quiet: bool) -> None:
    """Keep the present state of a machine. [default name: snapshot1, snapshot2 ...]

    The memory of a running machine belongs to its state, so the machine is
    suspended for some seconds.

    \b
    Examples:
      machine snapshot create box
      machine snapshot create -m 'before the upgrade' box clean
    """
    from machine.cli.terminal import reporter
    from machine.ops.snapshot import create_snapshot

    with reporter(quiet=quiet) as report:
        created = create_snapshot(name, snapshot, comment, current_context(), report)
    click.echo(created if quiet else f'Snapshot "{created}" of "{name}" created')


@command.command("ls")
@name_argument()
@format_option()
@noheading_option()
@click.option("-q", "--quiet", is_flag=True, help="Print only the names.")
def ls(name: str, format_: str | None, noheading: bool, quiet: bool) -> None:
    """List the snapshots of a machine, the oldest first.

    STATE is what the machine will be after a restore.

    \b
    Examples:
      machine snapshot ls box
      machine snapshot ls box --format '{{.Name}} {{.Comment}}'
    """
    from machine.ops.snapshot import list_snapshots

    listing, now = list_snapshots(name, current_context()), datetime.now(UTC)
    if quiet and format_ is None:
        for each in listing.snapshots:
            click.echo(each.name)
    else:
        print_listing(
            Listing(
                name="ls",
                type_name="machine.Snapshot",
                columns=[field.upper() for field in FIELDS],
                rows=lambda: [row(each, now) for each in listing.snapshots],
                fields=FIELDS,
                items=lambda: [dict(zip(FIELDS, row(each, now), strict=True)) for each in listing.snapshots],
                documents=lambda: [as_json(each) for each in listing.snapshots],
            ),
            format_,
            heading=not (noheading or quiet),
        )
    for broken in listing.broken:
        click.echo(f"Error: {broken.line}", err=True)


def row(snapshot: Snapshot, now: datetime) -> tuple[str, ...]:
    memory = "-" if snapshot.memory_bytes is None else human_size(snapshot.memory_bytes)
    return (snapshot.name, ago(snapshot.created, now), snapshot.state, memory, snapshot.comment or "")


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "Name": snapshot.name,
        "Created": rfc3339(snapshot.created),
        "State": snapshot.state,
        "Memory": snapshot.memory_bytes or 0,
        "Comment": snapshot.comment or "",
    }


@command.command("restore")
@machine_argument
@snapshot_argument
@click.option("-f", "--force", is_flag=True, help="Do not ask for confirmation.")
@click.option("--no-keep", is_flag=True, help="Do not keep the present state as the snapshot before-restore.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress.")
def restore(name: str, snapshot: str, force: bool, no_keep: bool, quiet: bool) -> None:
    """Return a stopped or suspended machine to a snapshot.

    The disk, the memory, the UEFI variables, the number of CPUs and the sizes of
    memory and disk return. The machine's name, ports, folders and other settings
    stay as they are now. The present state is kept as a snapshot, too.

    \b
    Example:
      machine stop box && machine snapshot restore box snapshot1
    """
    from machine.cli.terminal import reporter
    from machine.ops.snapshot import check_restorable, restore_snapshot

    context = current_context()
    if not force:
        check_restorable(name, snapshot, context)
        lost = "is lost" if no_keep else "is kept as a snapshot"
        click.echo(f'The machine "{name}" returns to the snapshot "{snapshot}", and its present state {lost}.')
        if not is_sure():
            return
    with reporter(quiet=quiet) as report:
        state = restore_snapshot(name, snapshot, context, report, keep=not no_keep)
    click.echo(f'Machine "{name}" restored to "{snapshot}"')
    verb = "resume" if state is State.SUSPENDED else "start"
    click.echo(f"To {verb} your machine run:\n\n\tmachine start {name}\n")


@command.command("rm")
@machine_argument
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT...", shell_complete=complete_snapshots)
def rm(name: str, snapshots: tuple[str, ...]) -> None:
    """Remove snapshots of a machine, which may be running.

    \b
    Example:
      machine snapshot rm box snapshot1
    """
    from machine.cli.terminal import reporter
    from machine.ops.snapshot import remove_snapshots

    chosen = list(dict.fromkeys(snapshots))
    with reporter() as report:
        remove_snapshots(name, chosen, current_context(), report)
    for snapshot in chosen:
        click.echo(snapshot)
