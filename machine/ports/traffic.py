"""Count the connections that lead through the sockets on which QEMU and ssh listen for a machine."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_UNIX_TABLE = Path("/proc/net/unix")
_LISTENING = "0A"
_UNIX_CONNECTED = "03"
_UNIX_STATE, _UNIX_PATH = 5, 7


@dataclass(frozen=True, kw_only=True)
class Link:
    """One end of a TCP connection on this host, as ports and as addresses in any notation."""

    local: int
    remote: int
    is_local: bool
    """Whether both ends are on this host, as far as the addresses tell."""


def links_through(ports: Collection[int], links: Iterable[Link], own: Collection[int]) -> list[Link]:
    """Return the ends of connections through one of these ports. Leave out those whose other port is in `own` (pure).

    A closed connection stays in the kernel's table for a minute, at the side that has closed it first. Thus short
    connections are seen as well.
    """
    return [
        link
        for link in links
        if (link.local in ports and link.remote not in own)
        or (link.is_local and link.remote in ports and link.local not in own)
    ]


def tcp_links(pids: Collection[int]) -> list[Link]:
    """Return all TCP connections of this host. Where only root may see them, return those of the processes `pids`."""
    if _UNIX_TABLE.exists():
        return [link for table in _TABLES for link in _read_table(table)]
    found: list[Link] = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found += _links_of(psutil.Process(pid))
    return found


def own_ports(port: int) -> set[int]:
    """Return the ports from which this process and its descendants have connected to a port of this host."""
    this = psutil.Process()
    ours: set[int] = set()
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            ours.update(link.local for link in _links_of(process) if link.remote == port)
    return ours


def _links_of(process: psutil.Process) -> Iterator[Link]:
    for one in process.net_connections("tcp"):
        if one.raddr:
            yield Link(local=one.laddr.port, remote=one.raddr.port, is_local=True)


def _read_table(table: Path) -> Iterator[Link]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:  # a kernel without IPv6
        return
    for line in lines:
        _, local, remote, state, *_ = line.split()
        if state != _LISTENING:
            here, there = local.rpartition(":"), remote.rpartition(":")
            yield Link(
                local=int(here[2], 16),
                remote=int(there[2], 16),
                is_local=here[0] == there[0] or _is_loopback(there[0]),
            )


def _is_loopback(address: str) -> bool:
    """Read an address of the kernel's table, which consists of words of 32 bits in the host's byte order."""
    words = [int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8)]
    found = ipaddress.ip_address(b"".join(words))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


class SocketTraffic:
    """Notices connections to Unix sockets, those that are open and those that were opened since the last look.

    A connection changes the time at which the socket's file was last accessed. Some file systems do not keep this time,
    and then only open connections are noticed.
    """

    def __init__(self) -> None:
        self._accessed: dict[Path, int] = {}

    def count(self, paths: Collection[Path], bound: Collection[Path]) -> int:
        """Return how many connections there were since the last look. `bound` are the paths that ssh has given them."""
        fresh = [path for path in paths if self._was_accessed(path)]
        return len(fresh) + _open_connections({*map(os.fspath, bound), *map(os.fspath, paths)})

    def _was_accessed(self, path: Path) -> bool:
        try:
            facts = path.stat()
            before = self._accessed.get(path)
            # A kernel with `relatime` writes the time only if it was before the last change.
            os.utime(path, ns=(0, facts.st_mtime_ns))
            self._accessed[path] = path.stat().st_atime_ns
        except OSError:
            return False
        return before is not None and facts.st_atime_ns != before


def _open_connections(paths: Collection[str]) -> int:
    """Return how many connections to these Unix sockets are open. Only Linux lists them."""
    try:
        lines = _UNIX_TABLE.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return 0
    rows = [row for line in lines if len(row := line.split(maxsplit=_UNIX_PATH)) > _UNIX_PATH]
    return sum(row[_UNIX_STATE] == _UNIX_CONNECTED and row[_UNIX_PATH] in paths for row in rows)
