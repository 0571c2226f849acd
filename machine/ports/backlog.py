"""Duplicate the sockets on which QEMU and ssh listen: to let bursts of clients wait there, or to keep them open.

QEMU lets one connection wait until it is accepted, and ssh 128. The kernel ignores the clients beyond that, and they
try again after one second, three, seven and so on. A listening socket can be given another limit at any time. Linux
lets a process duplicate the sockets of its own user's other processes, so no connection has to pass through us. When
the other process closes its socket, clients can still connect, and wait for whoever has the duplicate.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import sys
from collections.abc import Collection, Iterator

from machine.model.ports import Endpoint, SocketPath

_BACKLOG = 4096  # net.core.somaxconn allows no more by default
# The same on all architectures except Alpha. Python lacks the second, and on old systems is built without the first.
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 434, 438

_libc = ctypes.CDLL(None, use_errno=True)


def extend_backlog(pid: int, endpoint: Endpoint | SocketPath) -> None:
    """Let many connections wait at an endpoint on which a process listens. On other systems than Linux, do nothing.

    If the endpoint is a Unix socket, its clients are told from now on that the process ID of the server is our own.

    Raises:
        OSError: the process has ended, or Linux does not let this process have the sockets of the other.
    """
    for listener in duplicate_listeners(pid, [endpoint]).values():
        with listener:
            listener.listen(_BACKLOG)


def duplicate_listeners(
    pid: int, endpoints: Collection[Endpoint | SocketPath]
) -> dict[Endpoint | SocketPath, socket.socket]:
    """Return a duplicate of each socket on which a process listens at these endpoints. Only Linux lets us have any.

    Raises:
        OSError: the process has ended, or Linux does not let this process have the sockets of the other.
    """
    found: dict[Endpoint | SocketPath, socket.socket] = {}
    wanted = {_name_of(endpoint): endpoint for endpoint in endpoints}
    if sys.platform == "linux" and wanted:
        with contextlib.ExitStack() as unless_done:
            for listener in _listening_sockets(pid):
                if endpoint := wanted.pop(_bound_name(listener), None):
                    found[endpoint] = unless_done.enter_context(listener.dup())
                if not wanted:
                    break
            unless_done.pop_all()
    return found


def _listening_sockets(pid: int) -> Iterator[socket.socket]:
    """Yield a duplicate of each socket on which a process listens, and close the duplicate afterwards.

    The sockets with the highest descriptors come first, because the newest socket is usually among these.
    """
    process = _call(_SYS_PIDFD_OPEN, pid, 0)
    try:
        for descriptor in sorted(map(int, os.listdir(f"/proc/{pid}/fd")), reverse=True):  # noqa: PTH208
            duplicate = _duplicate(process, descriptor) if _is_socket(pid, descriptor) else None
            if duplicate is not None:
                with socket.socket(fileno=duplicate) as one:
                    if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        yield one
    finally:
        os.close(process)


def _is_socket(pid: int, descriptor: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:")  # noqa: PTH115
    except FileNotFoundError:  # closed meanwhile
        return False


def _duplicate(process: int, descriptor: int) -> int | None:
    """Duplicate a descriptor of a process. Return None if the process has closed the descriptor meanwhile."""
    try:
        return _call(_SYS_PIDFD_GETFD, process, descriptor, 0)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None
        raise


def _call(number: int, *arguments: int) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _name_of(endpoint: Endpoint | SocketPath) -> object:
    return endpoint.path if isinstance(endpoint, SocketPath) else (endpoint.address, endpoint.port)


def _bound_name(listener: socket.socket) -> object:
    name = listener.getsockname()
    return name if listener.family is socket.AF_UNIX else name[:2]
