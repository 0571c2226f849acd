"""Choose a host port for a guest's SSH server."""

from __future__ import annotations

import socket
from collections.abc import Collection

from machine.sockets import accepts
from machine.store import records
from machine.store.paths import Roots


def is_free(port: int) -> bool:
    """Return whether this port of 127.0.0.1 is free now, so that QEMU could listen on it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return not accepts("127.0.0.1", port)


def choose(reserved: Collection[int]) -> int:
    """Return a free port of 127.0.0.1 that is not in `reserved`."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in reserved:
            return port


def reserved_ports(roots: Roots, *, but: str | None = None) -> set[int]:
    """Return the SSH ports of all machines except the machine named `but`."""
    others = [record for record in records.load_readable(roots) if record.name != but]
    return {record.config.ssh_port for record in others if record.config.remote is None}
