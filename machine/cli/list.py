"""machine list"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from machine.cli.common import context
from machine.cli.render import table
from machine.model.state import State
from machine.model.units import GIB, MIB, ago, bytes_size

if TYPE_CHECKING:
    from machine.ops.list import ListedMachine

_COLUMNS = ("NAME", "VM TYPE", "CREATED", "LAST UP", "CPUS", "MEMORY", "DISK SIZE")
_VM_TYPE = "qemu"


@click.command("list")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
@click.option("-n", "--noheading", is_flag=True, help="Leave out the heading.")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
def command(format_: str, noheading: bool, quiet: bool) -> None:
    """List machines, those that run first."""
    from machine.ops.list import list_machines

    listing = list_machines(context())
    if format_ == "json":
        click.echo(json.dumps([as_json(listed) for listed in listing.machines], indent=4))
    elif quiet:
        for listed in listing.machines:
            click.echo(_marked(listed))
    else:
        now = datetime.now(UTC)
        rows = [row(listed, now) for listed in listing.machines]
        click.echo(table(rows if noheading else [_COLUMNS, *rows]), nl=False)
    for broken in listing.broken:
        click.echo(f"Error: {broken.error.line}", err=True)


def row(listed: ListedMachine, now: datetime) -> tuple[str, ...]:
    resources = listed.config.resources
    return (
        _marked(listed),
        _VM_TYPE,
        ago(listed.config.created, now),
        last_up(listed, now),
        str(resources.cpus),
        bytes_size(resources.memory_mib * MIB),
        bytes_size(resources.disk_gib * GIB),
    )


def last_up(listed: ListedMachine, now: datetime) -> str:
    state = listed.state
    if state.state is State.STOPPED:
        return ago(listed.config.last_up, now) if listed.config.last_up else "Never"
    return f"Currently {state.state}" + (f" ({state.reason})" if state.reason else "")


def _marked(listed: ListedMachine) -> str:
    return listed.config.name + ("*" if listed.default else "")


def as_json(listed: ListedMachine) -> dict[str, Any]:
    """Podman's fields, sizes as strings of bytes, and ours after them."""
    from machine.ops.times import rfc3339

    config, state = listed.config, listed.state
    return {
        "Name": config.name,
        "Default": listed.default,
        "Created": rfc3339(config.created),
        "Running": state.state.is_up,
        "Starting": state.state is State.STARTING,
        "LastUp": rfc3339(config.last_up),
        "Stream": config.image.stream or "default",
        "VMType": _VM_TYPE,
        "CPUs": config.resources.cpus,
        "Memory": str(config.resources.memory_mib * MIB),
        "Swap": "0",
        "DiskSize": str(config.resources.disk_gib * GIB),
        "Port": config.ssh_port,
        "RemoteUsername": config.username,
        "IdentityPath": str(listed.paths.identity),
        "UserModeNetworking": True,
        "State": state.state,
        "Reason": state.reason,
        "Arch": config.arch,
    }
