"""Commands that run the folder scripts in the guest, and their answers (pure); see images/ignition/files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from machine.model.folders import Folder
from machine.model.transport import Transport


@dataclass(frozen=True, kw_only=True)
class GuestReport:
    """The answer of folders.sh; folders have the numbers that they had on its command line."""

    supported: frozenset[Transport]
    """What the guest can mount."""

    mounted: frozenset[int]
    ready: Mapping[int, str]
    """Where the guest waits for an sshfs of the folder: its target without symbolic links."""

    failed: Mapping[int, str]
    """Why a folder is not mounted."""


def mount_command(folders: Sequence[tuple[Folder, Transport]]) -> str:
    """The command that runs folders.sh, which it reads from its stdin."""
    words = [
        word
        for folder, transport in folders
        for word in (transport.value, folder.tag, _mode(folder), folder.target)
    ]  # fmt: skip
    return shlex.join(["sh", "-s", "--", *words])


def sshfs_command(script: str, folder: Folder, *, uid: int, where: str) -> str:
    """The command that runs folder-sshfs.sh; `where` is what the guest was `ready` to mount on."""
    return shlex.join(["sh", "-c", script, "sshfs", _mode(folder), str(uid), where, folder.source])


def _mode(folder: Folder) -> str:
    return "ro" if folder.read_only else "rw"


def parse_report(text: str, count: int) -> GuestReport | None:
    """Parse what folders.sh printed for `count` folders; None where it did not reach its end."""
    supported, mounted = set(), set()
    ready, failed = {}, {}
    # Not splitlines: paths may contain what Unicode counts as the end of a line.
    lines = text.removesuffix("\n").split("\n")
    numbers = {str(number): number for number in range(count)}
    for line in lines:
        match line.split(" ", 2):
            case ["can", transport] if transport in set(Transport):
                supported.add(Transport(transport))
            case ["mounted", number] if number in numbers:
                mounted.add(numbers[number])
            case ["ready", number, where] if number in numbers:
                ready[numbers[number]] = where
            case ["failed", number, reason] if number in numbers:
                failed[numbers[number]] = reason
            case _:
                pass
    if lines[-1:] != ["done"]:
        return None
    return GuestReport(supported=frozenset(supported), mounted=frozenset(mounted), ready=ready, failed=failed)
