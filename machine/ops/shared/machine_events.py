"""Send podman's machine events to the programs that listen for them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from machine.ops.shared.context import Context
from machine.podman.machine_events import Event, event_message, event_sockets, send


def send_event(event: Event, name: str, context: Context) -> None:
    """Send an event of the machine to every program that listens for machine events."""
    message = event_message(event, name, datetime.now(UTC))
    for path in event_sockets(context.environment, events_directory(context)):
        send(path, message)


def events_directory(context: Context) -> Path:
    """Return the directory in which listeners for Podman's machine events have their sockets.

    The sockets of this program may be elsewhere.
    """
    session = context.environment.get(context.host.os.traits.session_variable) or f"/run/user/{context.uid}"
    return Path(session) / "podman"
