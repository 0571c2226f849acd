"""What the guest is told of folders, and what it answers (pure); the scripts are in images/ignition/files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from machine.model.folders import Folder
from machine.model.transport import Transport


@dataclass(frozen=True, kw_only=True)
class GuestReport:
    """By the numbers of folders: those that are `mounted`, the paths of those that are `ready` for sshfs, and why the
    others have `failed`. `can` is what the guest can mount.
    """

    can: frozenset[Transport]
    mounted: frozenset[int]
    ready: Mapping[int, str]
    failed: Mapping[int, str]


def mount_command(folders: Sequence[tuple[Folder, Transport]]) -> str:
    """The command that runs folders.sh, which comes on standard input."""
    words = [
        word
        for folder, transport in folders
        for word in (transport.value, folder.tag, _mode(folder), folder.target)
    ]  # fmt: skip
    return shlex.join(["sh", "-s", "--", *words])


def sshfs_command(script: str, folder: Folder, *, uid: int, where: str) -> str:
    """The command that runs folder-sshfs.sh; `where` is the target as the guest calls it."""
    return shlex.join(["sh", "-c", script, "sshfs", _mode(folder), str(uid), where, folder.source])


def _mode(folder: Folder) -> str:
    return "ro" if folder.read_only else "rw"


def parse_report(text: str, count: int) -> GuestReport | None:
    """What folders.sh has said of so many folders; None where it has not come to its end."""
    can, mounted = set(), set()
    ready, failed = {}, {}
    # Unicode knows more ends of lines, which paths may have.
    lines = text.removesuffix("\n").split("\n")
    numbers = {str(number): number for number in range(count)}
    for line in lines:
        match line.split(" ", 2):
            case ["can", transport] if transport in set(Transport):
                can.add(Transport(transport))
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
    return GuestReport(can=frozenset(can), mounted=frozenset(mounted), ready=ready, failed=failed)
