"""Say which permissions macOS wants before a service that starts at login may do what machines need (pure).

Programs in a terminal have the permissions of the terminal. What a service starts has the permissions of the program
that launchd runs for this service, which is Python.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath

from machine.model.host import Host, HostOS

# The kernels of macOS 10.15, which protects some folders, and of macOS 15, which protects the local network.
_PROTECTS_FOLDERS = (19,)
_PROTECTS_NETWORK = (24,)

_PROTECTED = ("Desktop", "Documents", "Downloads", "Library/Mobile Documents")
_VOLUMES = PurePath("/Volumes")
_SETTINGS = "System Settings > Privacy & Security"


def service_notices(host: Host, sources: Collection[str], home: PurePath, python: PurePath) -> list[str]:
    """Return notices about the permissions that a machine's service needs.

    `sources` are the host's folders that the machine shares. `python` is the program that runs this program.
    """
    if host.os is not HostOS.MACOS:
        return []
    notices = []
    if host.kernel >= _PROTECTS_NETWORK:
        notices.append(
            f"Containers reach computers of your local network only if {python} is allowed in "
            f"{_SETTINGS} > Local Network"
        )
    protected = [home / name for name in _PROTECTED] + [_VOLUMES]
    shared = [path for path in protected if any(_overlap(PurePath(source), path) for source in sources)]
    if shared and host.kernel >= _PROTECTS_FOLDERS:
        notices.append(
            f"Containers can read {_listed(shared)} only if {python} is allowed in {_SETTINGS} > Full Disk Access"
        )
    return notices


def _overlap(one: PurePath, other: PurePath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _listed(paths: list[PurePath]) -> str:
    *first, last = map(str, paths)
    return f"{', '.join(first)} and {last}" if first else last
