"""What the folder server needs to know about the machine and the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine.model.host import HostOS
from machine.model.transport import TransportChoice


@dataclass(frozen=True, kw_only=True)
class GuestScripts:
    """The texts of the scripts that a guest runs for its folders."""

    mount: str
    """folders.sh, which mounts exactly the folders that its arguments name."""

    release: str
    """folders-release.sh, which unmounts all folders if nothing in the guest uses one of them."""

    sshfs: str
    """folder-sshfs.sh, which runs sshfs on its stdin and stdout."""

    changes: str
    """folder-changes.sh, which raises inotify events for the files that its stdin names."""


@dataclass(frozen=True, kw_only=True)
class FolderSettings:
    """What the folder server needs to know about the machine and the host."""

    ssh: Callable[[str], Sequence[str]]
    """Returns, for a command, the command line that runs it as root in the guest, over the SSH master."""

    scripts: GuestScripts

    confine: Sequence[str]
    """The beginning of the command line that runs confine.py. A directory and a command follow."""

    guest_uid: int
    choice: TransportChoice
    relay_changes: bool
    """Whether changes that this host makes in the folders are passed on to the guest."""

    state_file: Path
    log_file: Path
    host_os: HostOS
    time_scale: int
    """The factor by which the guest's timeouts are longer than with hardware acceleration."""
