"""Make the commands that run the folder scripts in the guest, and parse the scripts' output (pure).

The scripts are in images/ignition/files.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from machine.model.folders import Folder
from machine.model.guest_os import NO_COMPOSEFS
from machine.model.obstacle import Obstacle
from machine.model.remote_facts import install_sshfs
from machine.model.transport import Transport

SEALED = (
    "the root directory is read-only; run this as root in the guest, and restart the machine: "
    f"rpm-ostree kargs --append-if-missing={NO_COMPOSEFS}"
)

# What folders.sh is told instead of the transport of a folder that sshfs has mounted.
_CONNECTED = "connected"
# The same for a folder whose virtiofsd has ended.
_ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class GuestReport:
    """The parsed output of folders.sh. A folder's number is its position in the command line of the script."""

    supported: frozenset[Transport]
    """The transports by which the guest can mount folders."""

    mounted: frozenset[int]
    ready: Mapping[int, str]
    """By folder number, the target at which the guest is ready to run sshfs, with symbolic links resolved."""

    failed: Mapping[int, str]
    """By folder number, why the guest has not mounted the folder."""

    installer: str | None = None
    """What installs programs on a host over SSH that has no sshfs."""

    sealed: frozenset[int] = frozenset()
    """The folders that need a new directory in the guest's root directory, which is a read-only composefs."""

    @property
    def sshfs_remedy(self) -> str | None:
        """What the user can do about a host over SSH that has no sshfs, else None."""
        command = install_sshfs(self.installer)
        return f"run there as root: {command}" if command else None


def mount_command(
    folders: Sequence[tuple[Folder, Transport]],
    connected: Collection[Folder] = (),
    ended: Collection[Folder] = (),
) -> str:
    """Return the shell command that mounts these folders in the guest. It reads the script folders.sh from stdin.

    The script does not touch `connected` folders, because they are mounted already. It takes `ended` folders away,
    because their virtiofsd has ended.
    """
    words = []
    for folder, transport in folders:
        state = _ENDED if folder in ended else _CONNECTED if folder in connected else transport.value
        words += [state, folder.tag, _mode(folder), folder.target]
    return shlex.join(["sh", "-s", "--", *words])


def sshfs_command(script: str, folder: Folder, *, uid: int, where: str) -> str:
    """Return the shell command that runs folder-sshfs.sh in the guest to mount `folder` at `where`.

    `where` is the target from `GuestReport.ready`.
    """
    return shlex.join(["sh", "-c", script, "sshfs", _mode(folder), str(uid), where, folder.source])


def release_command(folders: Iterable[Folder]) -> str:
    """Return the shell command that unmounts these folders. It reads the script folders-release.sh from stdin."""
    words = [word for folder in folders for word in (folder.tag, folder.target)]
    return shlex.join(["sh", "-s", "--", *words])


def parse_release(text: str) -> Obstacle | None:
    """Parse the output of folders-release.sh. Return what keeps a folder mounted, or None if all are unmounted."""
    lines = text.removesuffix("\n").split("\n")
    held = [line.removeprefix("held ") for line in lines if line.startswith("held ")]
    if held:
        return Obstacle(
            f"the guest uses folders of this host: {'; '.join(held)}",
            "end what uses them, for example by podman stop, and try again",
        )
    return None if lines[-1] == "done" else Obstacle("the script that unmounts the host's folders failed")


def _mode(folder: Folder) -> str:
    return "ro" if folder.read_only else "rw"


def parse_report(text: str, count: int) -> GuestReport | None:
    """Parse the output of folders.sh for `count` folders. Return None if the script did not reach its end."""
    supported, mounted = set(), set()
    ready, failed = {}, {}
    sealed = set()
    installer = None
    # Not splitlines: paths may contain other characters that end a line in Unicode.
    lines = text.removesuffix("\n").split("\n")
    numbers = {str(number): number for number in range(count)}
    for line in lines:
        match line.split(" ", 2):
            case ["can", transport] if transport in set(Transport):
                supported.add(Transport(transport))
            case ["installer", name]:
                installer = name
            case ["mounted", number] if number in numbers:
                mounted.add(numbers[number])
            case ["ready", number, where] if number in numbers:
                ready[numbers[number]] = where
            case ["failed", number, reason] if number in numbers:
                failed[numbers[number]] = reason
            case ["sealed", number] if number in numbers:
                sealed.add(numbers[number])
            case _:
                pass
    if lines[-1:] != ["done"]:
        return None
    return GuestReport(
        supported=frozenset(supported),
        mounted=frozenset(mounted),
        ready=ready,
        failed=failed,
        sealed=frozenset(sealed),
        installer=installer,
    )


def not_mounted(folder: Folder, reason: Obstacle | str) -> str:
    """Return the problem of a folder that is not mounted for this reason."""
    return f"{folder.target} is not mounted: {reason}"
