"""Whether a port or a socket's path of the host is free, and who holds it where it is not."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from machine.model.ports import Endpoint, Protocol, SocketPath

_CONNECT_S = 1.0
_USUALLY_PRIVILEGED_BELOW = 1024
_SYSCTL = "net.ipv4.ip_unprivileged_port_start"
_IPV4_BYTES = 4
# Of /proc/net/tcp and udp, include/net/tcp_states.h.
_LISTEN = "0A"
_UNCONNECTED = "07"
_OF_MACHINE = re.compile(r"(?:guest|HostKeyAlias)=machine-([^,\0]+)")


def why_not_free(endpoint: Endpoint | SocketPath) -> str:
    """Why the host cannot listen there, as a sentence with the way out; empty where it can."""
    if isinstance(endpoint, SocketPath):
        return _why_no_socket(Path(endpoint.path))
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
        return f"cannot publish {endpoint}: {_reason(endpoint, error)}"
    return ""


def host_has_ipv6() -> bool:
    """Whether a socket of the host's can listen on IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _why_no_socket(path: Path) -> str:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_S)
            probe.connect(os.fspath(path))
    except FileNotFoundError:
        reason = _why_no_file_in(path.parent)
    except ConnectionRefusedError:  # by a file, or by a socket whose owner has ended
        reason = "" if path.is_socket() else "there is a file of that name; choose another path"
    except (BlockingIOError, TimeoutError):  # its owner does not accept
        reason = "a program listens there; choose another path"
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        reason = "a program listens there; choose another path"
    return reason and f"cannot publish {path}: {reason}"


def _why_no_file_in(directory: Path) -> str:
    if not directory.is_dir():
        return f"there is no directory {directory}"
    return "" if os.access(directory, os.W_OK | os.X_OK) else f"the directory {directory} cannot be written"


def _reason(endpoint: Endpoint, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            holder = find_holder(endpoint)
            by = f" by {holder}" if holder else ""
            return f"the port is taken{by}; choose another host port"
        case errno.EACCES | errno.EPERM:
            first = _privileged_below()
            allowed = f", or allow it with: sysctl {_SYSCTL}={endpoint.port}" if sys.platform == "linux" else ""
            return f"ports below {first} are root's on this host; choose one from {first} on{allowed}"
        case errno.EADDRNOTAVAIL:
            return "this host does not have that address; choose another, or give none"
        case _:
            return error.strerror or str(error)


def _privileged_below() -> int:
    try:
        return int(Path("/proc/sys", *_SYSCTL.split(".")).read_text())
    except (OSError, ValueError):
        return _USUALLY_PRIVILEGED_BELOW


def find_holder(endpoint: Endpoint, proc: Path = Path("/proc")) -> str:
    """Who listens there: `machine NAME`, or `COMMAND (pid N)`; empty where that cannot be found out."""
    for entry in holding_processes(endpoint, proc):
        with contextlib.suppress(OSError):
            return _called(entry)
    return ""


def holding_processes(endpoint: Endpoint, proc: Path = Path("/proc")) -> Iterator[Path]:
    """The folders in `proc` of those that listen there, as far as they can be found out."""
    inodes = _inodes(endpoint, proc)
    if not inodes:
        return
    for entry in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in inodes:  # noqa: PTH115  (it is no path)
                        yield entry


def _called(entry: Path) -> str:
    if machine := _OF_MACHINE.search((entry / "cmdline").read_text(errors="replace")):
        return f"machine {machine[1]}"
    # The kernel cuts a name after 15 bytes, also within a character.
    return f"{(entry / 'comm').read_text(errors='replace').strip()} (pid {entry.name})"


def _inodes(endpoint: Endpoint, proc: Path) -> set[str]:
    found = set()
    for suffix in ("", "6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / f"{endpoint.protocol}{suffix}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = words = line.split()
                listens = state == (_LISTEN if endpoint.protocol is Protocol.TCP else _UNCONNECTED)
                address, _, port = local.rpartition(":")
                if listens and int(port, 16) == endpoint.port and _overlap(_decoded(address), endpoint.address):
                    found.add(f"socket:[{words[9]}]")
    return found


def _decoded(text: str) -> str:
    """An address of /proc/net, which is in words of the host's own order."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET6 if len(packed) > _IPV4_BYTES else socket.AF_INET, packed)


def _overlap(held: str, wanted: str) -> bool:
    """Whether nobody can listen on one address while somebody listens on the other."""
    held = held.removeprefix("::ffff:")
    every = ("", "0.0.0.0", "::")  # noqa: S104
    return held == wanted or held in every or wanted in every
