"""`machine autostart`: choose whether a machine starts at login. The machine is not started or stopped now."""

from __future__ import annotations

from pathlib import Path

from machine.ops.shared import login_service
from machine.ops.shared.context import Context
from machine.report import Reporter
from machine.store import records


def enable(name: str, context: Context, report: Reporter, *, on_demand: bool = False) -> Path:
    """Install a service that starts the machine at every login, and return the path of the service's file.

    With `on_demand`, the service only waits for the first client, and then starts the machine.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: this host has no systemd, or the file cannot be written.
    """
    record = records.load(context.roots, name)
    path = login_service.install(name, login_service.current_program(), context, report, on_demand=on_demand)
    for text in login_service.permissions(record, context):
        report.notice(text)
    return path


def disable(name: str, context: Context) -> bool:
    """Remove the service that starts the machine at login, and return whether there was one."""
    return login_service.remove(name, context)
