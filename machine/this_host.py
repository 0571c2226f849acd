"""Describe the host on which this process runs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from machine.errors import MachineError
from machine.model.host import Host, HostOS, Installer, installer_of, mac_machine
from machine.model.units import MIB

_LINGERING = Path("/var/lib/systemd/linger")


def current_os() -> HostOS:
    """Return the operating system of this host.

    Raises:
        MachineError: this program does not support that system.
    """
    try:
        return HostOS(sys.platform)
    except ValueError as error:
        raise MachineError(f"this program runs on Linux and macOS, not on {sys.platform}") from error


def current_host() -> Host:
    host_os = current_os()
    system = os.uname()
    return Host(
        os=host_os,
        machine=mac_machine(system.machine, system.version) if host_os is HostOS.MACOS else system.machine,
        cpus=os.cpu_count() or 1,
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        installer=Installer.BREW if host_os is HostOS.MACOS else _installer(),
        kernel=tuple(int(number) for number in re.findall(r"\d+", system.release.partition("-")[0])),
    )


def lasting_path(path: Path) -> Path:
    """Return a path of the same file that stays valid when Homebrew upgrades the file's package.

    Homebrew then removes `Cellar/NAME/VERSION`, to which `opt/NAME` linked, and makes `opt/NAME` a link to the new
    version. A path that Homebrew has not made, or has no such link for, is returned as it is.
    """
    match = re.fullmatch(r"(.*)/Cellar/([^/]+)/[^/]+/(.*)", os.fspath(path))
    if match is None:
        return path
    lasting = Path(match[1], "opt", match[2], match[3])
    return lasting if lasting.exists() else path


def own_python() -> str:
    """Return the path of this program's Python. The path stays valid when Homebrew upgrades the program."""
    return os.fspath(lasting_path(Path(sys.executable)))


def lingers(user: str) -> bool:
    """Return whether systemd runs a user's services without a login (loginctl enable-linger)."""
    try:
        return (_LINGERING / user).exists()
    except OSError:
        return False


def _installer() -> Installer | None:
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        try:
            return installer_of(path.read_text())
        except (OSError, ValueError):
            continue
    return None
