"""Listen on Unix sockets, and find out which process is at the other end of a socket, or whether anybody is there.

The kernel tells a client of a Unix socket the process ID of the server.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_TIMEOUT_S = 2
# This host's own addresses answer at once.
_LEAST_S = 0.1

# Linux: struct ucred of SO_PEERCRED; macOS: LOCAL_PEERPID of sys/un.h.
_UCRED = struct.Struct("3i")
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2

_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


async def serve_unix(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    path: Path,
    *,
    limit: int = 2**16,
    backlog: int = 100,
) -> asyncio.Server:
    """Listen on a Unix socket that only this user may use. Replace a socket that an earlier process has left there.

    `limit` is the size in bytes of the longest line that can be read.
    """
    import asyncio  # most users of this module do not need it

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(answer, path, limit=limit, backlog=backlog)
    path.chmod(0o600)
    return server


def new_path(path: Path) -> Path:
    """Return the path at which a process makes the socket that is then given the name `path`.

    Thus nobody finds the name without a socket that is listened on while one process takes over from another.
    """
    return path.with_suffix(".new")


def listens(path: Path) -> bool:
    """Return whether a process accepts connections on the Unix socket `path`."""
    return listener_pid(path) is not None


def listener_pid(path: Path) -> int | None:
    """Return the ID of the process that listens on the Unix socket `path`, or None if no process does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(str(path))
            if sys.platform == "darwin":
                pid = int.from_bytes(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4), sys.byteorder)
            else:
                pid, _, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        except OSError:
            return None
    return int(pid)


def accepts(address: str, port: int) -> bool:
    """Return whether a program on this host accepts TCP connections. `address` may stand for every address.

    A socket that can be bound does not prove that no program does. On macOS and other BSDs, SO_REUSEADDR lets one
    program listen on every address, and another on one address with the same port.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    return any(_answers(one, port, until=deadline) for one in _covered(address))


def _answers(address: str, port: int, *, until: float) -> bool:
    timeout_s = max(until - time.monotonic(), _LEAST_S)
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout_s) as connection:
        # A connection from the port itself, which the kernel may choose, meets nobody else.
        return bool(connection.getsockname() != connection.getpeername())
    return False


def _covered(address: str) -> list[str]:
    """Return the addresses at which a program may listen in place of one that listens on `address`, likeliest first."""
    loopback = _EVERY_ADDRESS.get(address)
    if loopback is None:
        return [address]
    found = [loopback]
    if sys.platform == "darwin":  # Linux lets nobody bind every address while a program listens on one of them
        import psutil  # slow to import

        family = socket.AF_INET6 if ":" in loopback else socket.AF_INET
        found += [one.address for every in psutil.net_if_addrs().values() for one in every if one.family == family]
    return list(dict.fromkeys(found))


def has_hung_up(descriptor: int) -> bool:
    """Return whether the other end of a socket, or the reading end of a pipe, has been closed."""
    poll = select.poll()
    poll.register(descriptor, 0)  # an error or a hang-up is always told
    return bool(poll.poll(0))


def kill_listener(path: Path) -> None:
    """Kill the process that listens on the Unix socket `path`, if there is one."""
    pid = listener_pid(path)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
