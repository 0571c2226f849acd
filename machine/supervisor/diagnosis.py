"""Decide from the facts that a guest tells about itself (its Vitals) what is wrong with the guest (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from machine.model.units import human_duration
from machine.supervisor.vitals import ClosedSocket, FileSystem, JournalLine, Memory, SocketState, Vitals

# Less than this is as good as nothing: Podman's database alone needs more.
_MIN_FREE_BYTES = 4 * 1024**2
_MIN_FREE_INODES = 64
_MIN_AVAILABLE_SHARE = 0.02
# A kill is news for this long.
_KILL_S = 300.0
_CLOCK_TOLERANCE_S = 30.0
# systemd starts the service again for a client that waits, so one failure proves nothing.
_FAILURES = 3
# An emulated Podman takes that long to fail.
_RUN_S = 30.0

_DISKS = ("/var", "/home", "/root")
_FAILED_RUN = "podman.service: Failed with result "
_KILLED_RUN = f"{_FAILED_RUN}'oom-kill'"
_CONFIG_LINE = re.compile(r"(?P<file>/[^\s\":]+\.conf)\b.*?\bline (?P<line>\d+)")
_LOGGED = re.compile(r'.*\blevel=\w+ msg="(?P<text>(?:[^"\\]|\\.)*)"')
_LOGGED_ERROR = re.compile(r'.*\blevel=(?:error|fatal|panic)\b.*?\bmsg="(?P<text>(?:[^"\\]|\\.)*)"')
_ERROR = re.compile(r"(?:Error: |(?=Failed to |panic: |fatal error: ))(?P<text>.+)")
_SYSTEMDS_ERROR = re.compile(r"podman\.service: (?P<text>(?:Failed at step|Failed to |Unable to locate ).+)")
_MAX_TEXT = 300


class PodmanHealth(StrEnum):
    """Whether Podman works in the guest, as far as the guest can tell without trying it."""

    UNKNOWN = "unknown"
    """Nothing speaks against it."""

    FAILING = "failing"
    """It fails again and again while clients wait, or has failed when it last ran."""

    CLOSED = "closed"
    """Nobody listens on one of the two Podman sockets."""

    @property
    def is_bad(self) -> bool:
        """Whether Podman is known not to work."""
        return self is not PodmanHealth.UNKNOWN


class GuestTrouble(StrEnum):
    """What can be wrong with a running guest, the worst first."""

    READ_ONLY = "read-only"
    DISK_FULL = "disk full"
    MEMORY_DISK_FULL = "memory disk full"
    """A file system in memory, such as /tmp, is full."""

    INODES_FULL = "inodes full"
    OUT_OF_MEMORY = "out of memory"
    PODMAN_CONFIG = "podman's configuration"
    PODMAN_BROKEN = "podman broken"
    PODMAN_CLOSED = "podman closed"
    CLOCK_OFF = "clock off"
    NO_ANSWER = "no answer"

    @property
    def silences(self) -> bool:
        """Whether this is why the guest does not answer over SSH, if it does not."""
        return self is GuestTrouble.OUT_OF_MEMORY

    def remedy(self, name: str) -> str:
        """Return the command that the user can type to remove the trouble."""
        resize = f"machine stop {name} && machine set {{}} {name} && machine start {name}"
        return {
            GuestTrouble.READ_ONLY: f"have its file system checked with: machine restart {name}",
            GuestTrouble.DISK_FULL: f"remove files with: machine ssh {name}, or enlarge the disk with: "
            + resize.format("--disk-size GIB"),
            GuestTrouble.MEMORY_DISK_FULL: f"remove files with: machine ssh {name}",
            GuestTrouble.INODES_FULL: f"remove files with: machine ssh {name}",
            GuestTrouble.OUT_OF_MEMORY: f"end programs with: machine ssh {name}, or give it more memory with: "
            + resize.format("--memory MIB"),
            GuestTrouble.PODMAN_CONFIG: f"correct the file with: machine ssh {name}",
            GuestTrouble.PODMAN_BROKEN: f"look for the cause with: machine ssh {name}",
            GuestTrouble.PODMAN_CLOSED: f"start podman.socket again with: machine ssh {name}",
            GuestTrouble.CLOCK_OFF: f"find what changes it with: machine ssh {name} timedatectl",
            GuestTrouble.NO_ANSWER: f"look at its console with: machine console {name}, or restart it with: "
            f"machine restart {name}",
        }[self]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A trouble of the guest, and its text for people."""

    trouble: GuestTrouble
    text: str
    closed: ClosedSocket | None = None
    """The Podman socket that is the trouble, if the guest names one."""

    def remedy(self, name: str) -> str:
        """Return what the user can type to remove the trouble of this machine."""
        return _opening(self.closed, name) if self.closed else self.trouble.remedy(name)


def systemctl_of(owner: str) -> str:
    """Return the command by which a user of the guest commands the systemd that runs this user's services."""
    return "systemctl" if owner == "root" else "systemctl --user"


def _opening(closed: ClosedSocket, name: str) -> str:
    """Return what the user can type so that systemd listens on a Podman socket again."""
    owner = closed.owner
    systemctl = systemctl_of(owner)
    start = f"{systemctl} enable --now podman.socket"
    match closed.state:
        case SocketState.STOPPED:
            return f"start it with: machine ssh --username {owner} {name} {start}"
        case SocketState.MASKED:
            unmask = f"{systemctl} unmask podman.socket"
            return f"start it with: machine ssh --username {owner} {name} '{unmask} && {start}'"
        case SocketState.MISSING:
            return f"install Podman again with: machine ssh --username root {name}"
        case SocketState.NO_MANAGER:
            # Without lingering, the user's systemd runs only while the user is logged in.
            manager = f"loginctl enable-linger {owner} && systemctl start user@$(id -u {owner})"
            return f"start it with: machine ssh --username root {name} '{manager}'"
    assert_never(closed.state)


def diagnose(vitals: Vitals, *, clock_off_s: float, podman: PodmanHealth) -> Diagnosis | None:
    """Return the worst trouble of the guest, or None if it has none.

    `clock_off_s` says by how many seconds the guest's clock is ahead of the host's. The journal is read only if Podman
    is failing, because the journal also contains failures of the past.
    """
    return (
        _disk_trouble(vitals)
        or _memory_trouble(vitals, podman_fails=podman is PodmanHealth.FAILING)
        or (_podman_trouble(vitals) if podman is PodmanHealth.FAILING else None)
        or (_closed_trouble(vitals.closed_sockets) if podman is PodmanHealth.CLOSED else None)
        or _clock_trouble(clock_off_s)
    )


NO_ANSWER = Diagnosis(trouble=GuestTrouble.NO_ANSWER, text="the guest does not answer")


def out_of_memory(killed: str) -> Diagnosis:
    """Return the trouble of a guest whose kernel has killed this program, because no memory was left."""
    text = f"the guest is out of memory and has killed {killed}"
    return Diagnosis(trouble=GuestTrouble.OUT_OF_MEMORY, text=text)


def keeps_failing(vitals: Vitals, *, for_s: float) -> bool:
    """Return whether Podman keeps failing. Its clients have been waiting for `for_s` seconds."""
    since = (vitals.clock or 0.0) - for_s
    failures = [line for line in vitals.journal if line.time >= since and line.text.startswith(_FAILED_RUN)]
    return vitals.socket_failed or len(failures) >= _FAILURES


def podmans_words(journal: tuple[JournalLine, ...], *, count: int) -> list[str]:
    """Return the last errors and warnings that Podman itself has written, each once."""
    texts = []
    for line in journal:
        if line.source != "systemd" and "level=info" not in line.text:
            logged = _LOGGED.match(line.text)
            texts.append(logged["text"] if logged else line.text)
    return list(dict.fromkeys(texts))[-count:]


def _disk_trouble(vitals: Vitals) -> Diagnosis | None:
    if vitals.is_read_only:
        return Diagnosis(trouble=GuestTrouble.READ_ONLY, text="the guest's disk is read-only")
    for each in vitals.file_systems:
        if each.free_bytes < _MIN_FREE_BYTES:
            if _is_disk(each):
                return Diagnosis(trouble=GuestTrouble.DISK_FULL, text="the guest's disk is full")
            return Diagnosis(trouble=GuestTrouble.MEMORY_DISK_FULL, text=f"the guest's {each.path} is full")
        if each.inodes and each.free_inodes < _MIN_FREE_INODES:
            where = "disk" if _is_disk(each) else each.path
            return Diagnosis(trouble=GuestTrouble.INODES_FULL, text=f"the guest's {where} has no free inodes")
    return None


def _is_disk(each: FileSystem) -> bool:
    return each.path.startswith(_DISKS)


def _memory_trouble(vitals: Vitals, *, podman_fails: bool) -> Diagnosis | None:
    kill = vitals.last_oom_kill
    if kill and kill.age_s is not None and kill.age_s < _KILL_S:
        return out_of_memory(kill.program)
    killed = podman_fails and any(line.text.startswith(_KILLED_RUN) for line in vitals.journal)
    if killed or (vitals.memory and _is_used_up(vitals.memory)):
        return Diagnosis(trouble=GuestTrouble.OUT_OF_MEMORY, text="the guest is out of memory")
    return None


def _is_used_up(memory: Memory) -> bool:
    return memory.available + memory.free_swap < memory.total * _MIN_AVAILABLE_SHARE


def _closed_trouble(closed: tuple[ClosedSocket, ...]) -> Diagnosis:
    if not closed:
        text = "nobody listens on a Podman socket in the guest"
    elif closed[0].state is SocketState.NO_MANAGER:
        text = f"systemd of {closed[0].owner} does not run in the guest, so nobody listens on its Podman socket"
    else:
        text = f"podman.socket of {closed[0].owner} is {closed[0].state} in the guest"
    return Diagnosis(trouble=GuestTrouble.PODMAN_CLOSED, text=text, closed=closed[0] if closed else None)


def _podman_trouble(vitals: Vitals) -> Diagnosis:
    """Return why Podman fails. If Podman refuses a line of its configuration, name that line.

    Otherwise, quote Podman's last error message or, if Podman has written none, systemd's.
    """
    lines = _last_run(vitals.journal)
    for line in reversed(lines):
        if line.source != "systemd" and (found := _CONFIG_LINE.search(line.text)):
            text = f"Podman refuses line {found['line']} of the guest's {found['file']}"
            return Diagnosis(trouble=GuestTrouble.PODMAN_CONFIG, text=text)
    found_errors = (
        match["text"]
        for pattern in (_ERROR, _LOGGED_ERROR, _SYSTEMDS_ERROR)
        for line in reversed(lines)
        if (match := pattern.match(line.text))
    )
    error = next(found_errors, None)
    if error is None and not vitals.has_podman:
        error = "podman is missing, or may not be executed"
    text = f"Podman fails in the guest: {_shortened(error)}" if error else "Podman fails in the guest"
    return Diagnosis(trouble=GuestTrouble.PODMAN_BROKEN, text=text)


def _last_run(journal: tuple[JournalLine, ...]) -> list[JournalLine]:
    """Return the lines of Podman's last failed run and later lines. Earlier errors may have been mended since."""
    ends = [line.time for line in journal if line.text.startswith(_FAILED_RUN)]
    since = ends[-1] - _RUN_S if ends else 0.0
    return [line for line in journal if line.time >= since]


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _clock_trouble(off_s: float) -> Diagnosis | None:
    if abs(off_s) <= _CLOCK_TOLERANCE_S:
        return None
    direction = "ahead" if off_s > 0 else "behind"
    text = f"the guest's clock is {human_duration(abs(off_s)).lower()} {direction}"
    return Diagnosis(trouble=GuestTrouble.CLOCK_OFF, text=text)
