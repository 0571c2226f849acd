"""Describe what was found on a host that is reached over SSH, and decide what it lacks to be a machine's (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from machine.errors import MachineError, Page
from machine.model.arch import Arch
from machine.model.provider import RootAccess

MIN_PODMAN = 4

_INSTALL = {
    # A host that was made from a cloud image has no lists of packages yet.
    "apt-get": ("apt-get update", "apt-get install -y {package}"),
    "dnf": ("dnf install -y {package}",),
    "zypper": ("zypper --non-interactive install {package}",),
    "apk": ("apk add --update-cache {package}",),
}
_SSHFS = {"dnf": "fuse-sshfs"}
"""What the package of sshfs is called where it is not called so."""

_SUDO = "sudo "
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

    @property
    def needs_sudo(self) -> bool:
        return self.command is not None and self.command.startswith(_SUDO)


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
        install = _install_command("podman", facts.installer, _sudo(facts))
        found.append(Lack(text="Podman is not installed", command=install))
    elif _major(facts.podman) < MIN_PODMAN:
        found.append(Lack(text=f"its Podman {facts.podman} is older than version {MIN_PODMAN}", command=None))
    if not facts.listens:
        found.append(_lack_of_socket(facts))
    if facts.has_systemd and facts.uid != 0 and not facts.lingers:
        command = f"{_sudo(facts)}loginctl enable-linger {shlex.quote(facts.user)}"
        found.append(Lack(text=f"containers of {facts.user} end when {facts.user} logs out", command=command))
    if folders and not facts.has_sshfs:
        install = install_sshfs(facts.installer, sudo=_sudo(facts))
        found.append(Lack(text="sshfs, which mounts folders, is not installed", command=install))
    return found


def find_remedy(lacks: Sequence[Lack], facts: RemoteFacts, *, was_to_install: bool) -> str | None:
    """Return what the user can do about these lacks, or None. `was_to_install` tells whether --install was given."""
    commands = [lack.command for lack in lacks if lack.command]
    if not commands:
        return None
    remedy = f"run there: {' && '.join(commands)}"
    if not facts.has_sudo and any(lack.needs_sudo for lack in lacks):
        return f"{remedy}; --install cannot, because {facts.user} has no sudo without a password there"
    return remedy if was_to_install else f"{remedy}; or let machine init --install do it"


def install_sshfs(installer: str | None, *, sudo: str = "") -> str | None:
    """Return the command that installs sshfs, each part after `sudo`. Return None if the installer is unknown."""
    return _install_command(_SSHFS.get(installer or "", "sshfs"), installer, sudo)


def _install_command(package: str, installer: str | None, sudo: str) -> str | None:
    parts = _INSTALL.get(installer or "")
    return " && ".join(sudo + part.format(package=package) for part in parts) if parts else None


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


def _sudo(facts: RemoteFacts) -> str:
    """Return what a command of root's begins with."""
    return "" if facts.uid == 0 else _SUDO


def check_system(facts: RemoteFacts, place: str) -> Arch:
    """Check the host's operating system and architecture, and return the latter.

    Raises:
        MachineError: no machine can be on such a host.
    """
    if facts.system != "Linux":
        raise MachineError(f"{place} runs {facts.system}, but containers need Linux", page=Page.HOSTS)
    try:
        return Arch.parse(facts.arch)
    except ValueError as error:
        problem = f"{place} has the architecture {facts.arch}, which is not supported"
        raise MachineError(problem, page=Page.HOSTS) from error
