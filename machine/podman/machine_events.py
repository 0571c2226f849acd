"""Send the events of podman machine, which are JSON objects, to the Unix sockets of listeners."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path

log = logging.getLogger(__name__)

SOCKET_VARIABLE = "PODMAN_MACHINE_EVENTS_SOCK"

_PATTERN = "*machine_events*.sock*"
# A stuck listener must not delay commands for long.
_TIMEOUT_S = 1.0


class Event(StrEnum):
    INIT = "init"
    START = "start"
    STOP = "stop"
    REMOVE = "remove"
    COPY = "copy"


def event_sockets(environment: Mapping[str, str], directory: Path) -> list[Path]:
    """Return the socket that $PODMAN_MACHINE_EVENTS_SOCK names or, if it is not set, all sockets below `directory`."""
    named = environment.get(SOCKET_VARIABLE)
    if named is not None:
        return [Path(named)]
    return sorted(path for path in directory.rglob(_PATTERN) if path.is_socket())


def event_message(event: Event, name: str, moment: datetime) -> bytes:
    """Return an event as JSON, in the form that libpod writes."""
    time = moment.isoformat().replace("+00:00", "Z")
    document = {"Name": name, "Status": event, "Time": time, "Type": "machine", "Attributes": None}
    return json.dumps(document, separators=(",", ":")).encode()


def send(path: Path, message: bytes) -> None:
    """Send an event to the listener on the socket `path`. If the event cannot be sent, only log the error."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_TIMEOUT_S)
            client.connect(str(path))
            client.sendall(message)
    except OSError as error:
        log.warning("cannot send an event to %s: %s", path, error)
