"""The command `machine list`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from machine.cli.common import current_context, format_option, noheading_option
from machine.cli.flags import Command
from machine.cli.formats import Listing, print_listing
from machine.model.state import State
from machine.model.units import GIB, MIB, ago, bytes_size
from machine.ops.list import JSON_SCHEMA
from machine.ops.shared.times import rfc3339, uptime_s

if TYPE_CHECKING:
    from machine.ops.list import ListedMachine

FIELDS = (
    "Name", "Default", "Created", "Running", "Starting", "LastUp", "Stream", "VMType", "CPUs", "Memory", "Swap",
    "DiskSize", "Port", "RemoteUsername", "IdentityPath", "UserModeNetworking", "State", "Reason", "Arch",
    "Accelerator", "Image", "Release", "Verified", "Uptime", "Labels", "Schema",
)  # fmt: skip
_COLUMNS = ("NAME", "VM TYPE", "CREATED", "LAST UP", "CPUS", "MEMORY", "DISK SIZE")


@click.command("list", cls=Command)
@format_option()
@click.option("--label", "labels", multiple=True, metavar="KEY[=VALUE]", help="List only machines with this label.")
@noheading_option()
@click.option("-q", "--quiet", is_flag=True, help="Print only the names.")
@click.option("--all-providers", is_flag=True, hidden=True)  # Podman 5.3 to 5.8 had this; we list all machines
def command(format_: str | None, labels: tuple[str, ...], noheading: bool, quiet: bool, all_providers: bool) -> None:  # noqa: ARG001
    """List machines, the running ones first.

    \b
    Examples:
      machine ls --format json
      machine ls --format '{{.Name}} {{.LastUp}}'
      machine ls --label team=web
      machine ls --format 'table {{.Name}}\\t{{.State}}\\t{{.Arch}}'
    """
    from machine.ops.list import list_machines

    listing = list_machines(current_context(), labels)
    machines, now = listing.machines, datetime.now(UTC)
    if quiet and format_ is None:
        for listed in machines:
            click.echo(_marked(listed))
    else:
        print_listing(
            Listing(
                name="list",
                type_name="*entities.ListReporter",
                columns=_COLUMNS,
                rows=lambda: [row(listed, now) for listed in machines],
                fields=FIELDS,
                items=lambda: [item(listed, now) for listed in machines],
                documents=lambda: [as_json(listed, now) for listed in machines],
                indent=4,
                headings={"CPUs": "CPUS"},
                types={"Labels": "map[string]string"},
            ),
            format_,
            heading=not (noheading or quiet),
        )
    for broken in listing.broken:
        click.echo(f"Error: {broken.error.line}", err=True)


def row(listed: ListedMachine, now: datetime) -> tuple[str, ...]:
    resources = listed.record.config.resources
    return (
        _marked(listed),
        listed.record.config.provider,
        ago(listed.record.config.created, now),
        last_up(listed, now),
        str(resources.cpus),
        bytes_size(resources.memory_mib * MIB),
        bytes_size(resources.disk_gib * GIB),
    )


def last_up(listed: ListedMachine, now: datetime) -> str:
    state = listed.state
    reason = f" ({state.reason})" if state.reason else ""
    if state.state is State.STOPPED:
        return (ago(listed.record.guest.last_up, now) if listed.record.guest.last_up else "Never") + reason
    return f"Currently {state.state}{reason}"


def _marked(listed: ListedMachine) -> str:
    return listed.record.config.name + ("*" if listed.default else "")


def item(listed: ListedMachine, now: datetime) -> dict[str, Any]:
    """Return the fields for templates. They are the fields of the JSON, formatted as in the table."""
    name, _, created, up, _, memory, disk = row(listed, now)
    swap = bytes_size(listed.record.config.swap_mib * MIB)
    words = {"Name": name, "Created": created, "LastUp": up, "Memory": memory, "Swap": swap, "DiskSize": disk}
    return {**as_json(listed, now), **words}


def as_json(listed: ListedMachine, now: datetime) -> dict[str, Any]:
    """Return a machine's fields for JSON, first Podman's and then ours. The sizes in bytes are strings."""
    config, guest, state = listed.record.config, listed.record.guest, listed.state
    return {
        "Name": config.name,
        "Default": listed.default,
        "Created": rfc3339(config.created),
        "Running": state.state.is_up,
        "Starting": state.state is State.STARTING,
        "LastUp": rfc3339(guest.last_up),
        "Stream": config.image.stream or "default",
        "VMType": config.provider,
        "CPUs": config.resources.cpus,
        "Memory": str(config.resources.memory_mib * MIB),
        "Swap": str(config.swap_mib * MIB),
        "DiskSize": str(config.resources.disk_gib * GIB),
        "Port": config.ssh_port,
        "RemoteUsername": config.username,
        "IdentityPath": str(listed.identity),
        "UserModeNetworking": True,
        "State": state.state,
        "Reason": state.reason or "",
        "Arch": config.arch,
        "Accelerator": config.accelerator,
        "Image": config.image.reference,
        "Release": config.image.release or "",
        "Verified": config.image.verified,
        "Uptime": uptime_s(guest.last_up, state.state, now),
        "Labels": dict(config.labels),
        "Schema": JSON_SCHEMA,
    }
