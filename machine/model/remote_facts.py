"""Describe what was found on a host that is reached over SSH, and decide what it lacks to be a machine's (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.provider import RootAccess

MIN_PODMAN = 4

_INSTALL_PODMAN = {
    "apt-get": "apt-get install -y podman",
    "dnf": "dnf install -y podman",
    "zypper": "zypper --non-interactive install podman",
    "apk": "apk add podman",
}
_INSTALL_SSHFS = {
    "apt-get": "apt-get install -y sshfs",
    "dnf": "dnf install -y fuse-sshfs",
    "zypper": "zypper --non-interactive install sshfs",
    "apk": "apk add sshfs",
}
_LAST_LINE = "end"


@dataclass(frozen=True, kw_only=True)
class RemoteFacts:
    """What was found on a host. What could not be found is None."""

    system: str
    arch: str
    user: str
    uid: int
    cpus: int
    memory_mib: int
    disk_gib: int
    installer: str | None
    has_systemd: bool
    lingers: bool
    has_sudo: bool
    """Whether the user can run commands by sudo without a password."""

    has_sshfs: bool
    podman: str | None
    """The version of Podman."""

    socket: str | None
    """Where the user's Podman says that it listens."""

    listens: bool
    """Whether there is a socket at this path."""

    @property
    def root_access(self) -> RootAccess:
        if self.uid == 0:
            return RootAccess.LOGIN
        return RootAccess.SUDO if self.has_sudo else RootAccess.NONE


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Something that a host lacks, and the command that mends it there. None if no command does."""

    text: str
    command: str | None


def parse_facts(output: str) -> RemoteFacts | None:
    """Parse the output of look-at-host.sh. Return None if it is not complete."""
    lines = output.splitlines()
    if _LAST_LINE not in lines:
        return None
    facts: Mapping[str, str] = dict(line.partition(" ")[::2] for line in lines)
    try:
        return RemoteFacts(
            system=facts["system"],
            arch=facts["arch"],
            user=facts["user"],
            uid=int(facts["uid"]),
            cpus=int(facts.get("cpus") or 1),
            memory_mib=int(facts.get("memory_kib") or 0) // 1024,
            disk_gib=int(facts.get("disk_kib") or 0) // 1024**2,
            installer=facts.get("installer"),
            has_systemd="systemd" in facts,
            lingers="lingers" in facts,
            has_sudo="sudo" in facts,
            has_sshfs="sshfs" in facts,
            podman=facts.get("podman"),
            socket=facts.get("socket"),
            listens="listens" in facts,
        )
    except (KeyError, ValueError):
        return None


def find_lacks(facts: RemoteFacts, *, folders: bool = False) -> list[Lack]:
    """Return what the host lacks, in the order in which it is to be mended. With `folders`, it will mount folders."""
    found = []
    if facts.podman is None:
        install = _INSTALL_PODMAN.get(facts.installer or "")
        found.append(Lack(text="Podman is not installed", command=install and _as_root(install, facts)))
    elif _major(facts.podman) < MIN_PODMAN:
        found.append(Lack(text=f"its Podman {facts.podman} is older than version {MIN_PODMAN}", command=None))
    if not facts.listens:
        found.append(_lack_of_socket(facts))
    if facts.has_systemd and facts.uid != 0 and not facts.lingers:
        command = _as_root(f"loginctl enable-linger {shlex.quote(facts.user)}", facts)
        found.append(Lack(text=f"containers of {facts.user} end when {facts.user} logs out", command=command))
    if folders and not facts.has_sshfs:
        install = install_sshfs(facts.installer)
        found.append(
            Lack(text="sshfs, which mounts folders, is not installed", command=install and _as_root(install, facts))
        )
    return found


def install_sshfs(installer: str | None) -> str | None:
    """Return the command by which root installs sshfs. Return None if the installer is unknown."""
    return _INSTALL_SSHFS.get(installer or "")


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdigit() else 0


def _lack_of_socket(facts: RemoteFacts) -> Lack:
    text, command = "Podman's API socket is not enabled", _socket_command(facts)
    if command is None and facts.podman is not None:
        text += " (without systemd, run there: podman system service --time=0)"
    return Lack(text=text, command=command)


def _socket_command(facts: RemoteFacts) -> str | None:
    if facts.has_systemd:
        user = "" if facts.uid == 0 else "--user "
        return f"systemctl {user}enable --now podman.socket"
    if facts.uid == 0 and facts.installer == "apk":
        return "rc-update add podman && rc-service podman start"
    return None


def _as_root(command: str, facts: RemoteFacts) -> str:
    return command if facts.uid == 0 else f"sudo {command}"


def check_system(facts: RemoteFacts, place: str) -> Arch:
    """Check the host's operating system and architecture, and return the latter.

    Raises:
        MachineError: no machine can be on such a host.
    """
    if facts.system != "Linux":
        raise MachineError(f"{place} runs {facts.system}, but containers need Linux")
    try:
        return Arch.parse(facts.arch)
    except ValueError as error:
        raise MachineError(f"{place} has the architecture {facts.arch}, which is not supported") from error
