"""Parse the facts that a running guest tells about itself, in the format of images/ignition/files/examine.sh (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_DONE = "done"
_HOST_FOLDERS = frozenset({"fuse", "fuseblk", "virtiofs", "v9fs"})
_MEMORY = re.compile(r"(MemTotal|MemAvailable|SwapFree): +(\d+) kB")
OOM_KILL = re.compile(r"(?:\[ *(?P<at>\d+\.\d+)\] )?.*Out of memory: Kill(?:ed)? process \d+ \((?P<name>.+?)\)")
"""The line in which a kernel says that it has killed a program because no memory was left."""

_JOURNAL = re.compile(r"(?P<time>\d+\.\d+) \S+ (?P<source>[^:]+?)(?:\[\d+\])?: (?P<text>.*)")
_UNIT = re.compile(r"[^ \w]* *(\S+\.[a-z]+) ")


@dataclass(frozen=True, kw_only=True)
class FileSystem:
    """The space that ordinary users have on the file system at `path`. Without a count of inodes, `inodes` is 0."""

    path: str
    free_bytes: int
    free_inodes: int
    inodes: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The guest's memory, in KiB. `available` is what programs can still get without swapping."""

    total: int
    available: int
    free_swap: int


@dataclass(frozen=True, kw_only=True)
class OutOfMemoryKill:
    """A program that the guest's kernel has killed because no memory was left."""

    program: str
    age_s: float | None
    """How many seconds ago the program was killed. None if the kernel's log has no times."""


@dataclass(frozen=True, kw_only=True)
class JournalLine:
    """A line of the journal about a Podman service. `source` is the program that wrote it."""

    time: float
    source: str
    text: str


class SocketState(StrEnum):
    """Why systemd does not listen on a Podman socket that has not failed."""

    MASKED = "masked"
    STOPPED = "stopped"
    MISSING = "missing"
    NO_MANAGER = "no manager"
    """The user's systemd does not run."""


_SOCKET_STATES = {
    "masked": SocketState.MASKED,
    "loaded": SocketState.STOPPED,
    "not-found": SocketState.MISSING,
    "": SocketState.NO_MANAGER,
}


@dataclass(frozen=True, kw_only=True)
class ClosedSocket:
    """The Podman socket of a user of the guest, on which nobody listens."""

    owner: str
    state: SocketState


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """The facts about a running guest. A fact is None or empty if the guest has not told it."""

    clock: float | None = None
    """The guest's time, in seconds of the epoch."""

    file_systems: tuple[FileSystem, ...] = ()
    is_read_only: bool = False
    memory: Memory | None = None
    oom_kills: int = 0
    """How many programs the kernel has killed because no memory was left, in the guest or for a container."""

    last_oom_kill: OutOfMemoryKill | None = None
    """The program that was killed last, except programs in containers that have used up their own share of memory."""

    sockets: frozenset[str] = frozenset()
    """The Podman sockets on which the guest listens."""

    closed_sockets: tuple[ClosedSocket, ...] = ()
    is_starting: bool = False
    """Whether the user's systemd, which is to listen on the user's Podman socket, is still starting."""

    has_podman: bool = True
    """Whether the program `podman` is there, and may be executed."""

    socket_failed: bool = False
    """Whether systemd had given up one of the Podman sockets. Such a socket has been started again."""

    service_failed: bool = False
    """Whether the last run of one of the Podman services has failed."""

    failed_units: tuple[str, ...] = ()
    journal: tuple[JournalLine, ...] = ()
    """The last lines of the journal about the Podman services, since the guest has booted."""


def parse_vitals(text: str) -> Vitals | None:
    """Parse the output of examine.sh. Return None if the script did not reach its end."""
    # Not splitlines: the journal may contain other characters that end a line in Unicode.
    lines = text.removesuffix("\n").split("\n")
    if lines[-1] != _DONE:
        return None
    uptime = _number(lines, "uptime ")
    boot_time = _number(lines, "btime ")
    return Vitals(
        clock=uptime + boot_time if uptime is not None and boot_time else None,
        file_systems=tuple(_file_systems(lines)),
        is_read_only="read-only" in lines,
        memory=_memory(lines),
        oom_kills=int(_number(lines, "oom_kill ") or 0),
        last_oom_kill=_last_oom_kill(lines, uptime),
        sockets=frozenset(line.rpartition(" ")[2] for line in lines if " 00010000 " in line and line[-5:] == ".sock"),
        closed_sockets=tuple(_closed_sockets(lines)),
        is_starting="podman-starting" in lines,
        has_podman="no-podman" not in lines,
        socket_failed="podman-failed socket" in lines,
        service_failed="podman-failed service" in lines,
        failed_units=tuple(
            dict.fromkeys(found[1] for line in _after(lines, "failed ") if (found := _UNIT.match(f"{line} ")))
        ),
        journal=tuple(_journal(lines)),
    )


def _after(lines: list[str], word: str) -> list[str]:
    return [line.removeprefix(word) for line in lines if line.startswith(word)]


def _closed_sockets(lines: list[str]) -> list[ClosedSocket]:
    found = (line.partition(" ") for line in _after(lines, "podman-closed "))
    return [
        ClosedSocket(owner=owner, state=_SOCKET_STATES[state]) for owner, _, state in found if state in _SOCKET_STATES
    ]


def _number(lines: list[str], word: str) -> float | None:
    for text in _after(lines, word):
        try:
            return float(text)
        except ValueError:
            continue
    return None


def _file_systems(lines: list[str]) -> list[FileSystem]:
    """Return the guest's own file systems, without the host's folders."""
    found = []
    for line in _after(lines, "space "):
        match line.split(" ", 5):
            case [blocks, size, free, total, kind, path] if kind not in _HOST_FOLDERS and all(
                word.isdecimal() for word in (blocks, size, free, total)
            ):
                found.append(
                    FileSystem(path=path, free_bytes=int(blocks) * int(size), free_inodes=int(free), inodes=int(total))
                )
            case _:
                pass
    return found


def _memory(lines: list[str]) -> Memory | None:
    found = {match[1]: int(match[2]) for line in lines if (match := _MEMORY.match(line))}
    if not {"MemTotal", "MemAvailable"} <= found.keys():
        return None
    return Memory(total=found["MemTotal"], available=found["MemAvailable"], free_swap=found.get("SwapFree", 0))


def _last_oom_kill(lines: list[str], uptime: float | None) -> OutOfMemoryKill | None:
    for line in lines:
        if not line.startswith("journal ") and (found := OOM_KILL.match(line)):
            age_s = uptime - float(found["at"]) if uptime is not None and found["at"] else None
            return OutOfMemoryKill(program=found["name"], age_s=age_s)
    return None


def _journal(lines: list[str]) -> list[JournalLine]:
    return [
        JournalLine(time=float(found["time"]), source=found["source"], text=found["text"])
        for line in _after(lines, "journal ")
        if (found := _JOURNAL.match(line))
    ]
