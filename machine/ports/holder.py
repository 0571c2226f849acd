"""Find out whether the host can listen on a port or a socket's path, or which program listens there already."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from machine.errors import MachineError, Page, reason_of
from machine.model.host import HostOS
from machine.model.ports import EVERY, Endpoint, Protocol, SocketPath
from machine.sockets import accepts
from machine.this_host import current_os

if TYPE_CHECKING:
    from psutil import Process

_CONNECT_S = 1.0
_USUALLY_PRIVILEGED_BELOW = 1024
_SYSCTL = "net.ipv4.ip_unprivileged_port_start"
# Part of the command lines of a machine's QEMU and SSH master.
_MACHINE = re.compile(r"(?:guest|HostKeyAlias)=machine-([^,\0]+)")


def check_can_listen(endpoint: Endpoint | SocketPath) -> None:
    """Check that the host can listen at `endpoint`.

    Raises:
        MachineError: it cannot. The error says why, and what to do about it.
    """
    if isinstance(endpoint, SocketPath):
        _check_path(Path(endpoint.path))
        return
    kind = socket.SOCK_STREAM if endpoint.protocol is Protocol.TCP else socket.SOCK_DGRAM
    family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU and ssh do
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((endpoint.address or "0.0.0.0", endpoint.port))  # noqa: S104  (every address was asked for)
            if kind == socket.SOCK_STREAM:
                probe.listen()
    except OSError as error:
        raise _refusal(endpoint, error) from error
    if kind == socket.SOCK_STREAM and accepts(endpoint.address, endpoint.port):
        raise _taken(endpoint)


def host_has_ipv6() -> bool:
    """Return whether the host can listen on IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _check_path(path: Path) -> None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_S)
            probe.connect(os.fspath(path))
    except FileNotFoundError:
        reason = _directory_problem(path.parent)
    except ConnectionRefusedError:  # by a file, or by a socket whose program has ended
        reason = None if path.is_socket() else "a file with that name exists; choose another path"
    except (BlockingIOError, TimeoutError):  # its program accepts no connections
        reason = "another program listens there; choose another path"
    except OSError as error:
        reason = reason_of(error)
    else:
        reason = "another program listens there; choose another path"
    if reason is not None:
        raise MachineError(f"cannot publish {path}: {reason}", page=Page.PORTS)


def _directory_problem(directory: Path) -> str | None:
    if not directory.is_dir():
        return f"the directory {directory} does not exist"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"the directory {directory} is not writable"
    return None


def _refusal(endpoint: Endpoint, error: OSError) -> MachineError:
    match error.errno:
        case errno.EADDRINUSE:
            return _taken(endpoint)
        case errno.EACCES | errno.EPERM:
            reason = _forbidden(endpoint, current_os())
        case errno.EADDRNOTAVAIL:
            reason = "this host does not have that address; choose another address, or leave it out"
        case _:
            reason = reason_of(error)
    return MachineError(f"cannot publish {endpoint}: {reason}", page=Page.PORTS)


def _taken(endpoint: Endpoint) -> MachineError:
    holder = find_holder(endpoint)
    by = f" by {holder}" if holder else ""
    reason = f"the port is taken{by}; choose another host port"
    return MachineError(f"cannot publish {endpoint}: {reason}", page=Page.PORT_TAKEN)


def _forbidden(endpoint: Endpoint, host_os: HostOS) -> str:
    first = _privileged_below()
    match host_os:
        case HostOS.LINUX:
            return (
                f"only root may listen below port {first} on this host; choose {first} or higher, or allow it with: "
                f"sudo sysctl {_SYSCTL}={endpoint.port}"
            )
        case HostOS.MACOS:
            kind = "/udp" if endpoint.protocol is Protocol.UDP else ""
            return (
                f"macOS lets only root listen on a single address below port {first}; choose {first} or higher, or "
                f"listen on every address: '{EVERY}:{endpoint.port}:GUEST_PORT{kind}' for machine port add, or "
                f"{endpoint.port}:GUEST_PORT{kind} for podman run -p"
            )


def _privileged_below() -> int:
    try:
        return int(Path("/proc/sys", *_SYSCTL.split(".")).read_text())
    except (OSError, ValueError):
        return _USUALLY_PRIVILEGED_BELOW


def find_holder(endpoint: Endpoint) -> str | None:
    """Return which program listens at `endpoint`, as `machine NAME` or `PROGRAM (pid N)`, or None if unknown."""
    import psutil  # slow to import, and not needed for free ports

    for pid in listening_pids(endpoint):
        with contextlib.suppress(psutil.Error):
            return _name_of(psutil.Process(pid))
    return None


def listening_pids(endpoint: Endpoint) -> set[int]:
    """Return the IDs of the processes that listen at `endpoint`. Processes that this user may not see are left out."""
    import psutil

    kind = endpoint.protocol.value
    try:
        every = psutil.net_connections(kind)
    except psutil.AccessDenied:  # on macOS, only root may list the sockets of all processes at once
        return {process.pid for process in psutil.process_iter() if _process_listens(process, endpoint)}
    return {one.pid for one in every if one.pid and _listens(one.laddr, one.raddr, one.status, endpoint)}


def _process_listens(process: Process, endpoint: Endpoint) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error):
        every = process.net_connections(endpoint.protocol.value)
        return any(_listens(one.laddr, one.raddr, one.status, endpoint) for one in every)
    return False


def _listens(
    local: tuple[str, int] | tuple[()], remote: tuple[str, int] | tuple[()], status: str, endpoint: Endpoint
) -> bool:
    """Return whether a socket that psutil lists prevents other programs from listening at `endpoint`."""
    import psutil

    if not local or remote or status not in (psutil.CONN_LISTEN, psutil.CONN_NONE):
        return False
    address, port = local
    return port == endpoint.port and _overlap(address, endpoint.address)


def _overlap(held: str, wanted: str) -> bool:
    """Return whether a socket that listens on the address `held` prevents another from listening on `wanted`."""
    held = held.removeprefix("::ffff:")
    every = ("", "0.0.0.0", "::")  # noqa: S104
    return held == wanted or held in every or wanted in every


def _name_of(process: Process) -> str:
    if machine := _MACHINE.search("\0".join(process.cmdline())):
        return f"machine {machine[1]}"
    # The kernel truncates a name after 15 bytes, even within a character.
    name = process.name().encode(errors="surrogateescape").decode(errors="replace")
    return f"{name} (pid {process.pid})"
