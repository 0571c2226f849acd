"""The settings of a folder server, for tests that run one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from machine.folders.settings import FolderSettings, GuestScripts
from machine.model.host import HostOS
from machine.model.transport import TransportChoice
from machine.this_host import current_host


def make_folder_settings(
    directory: Path,
    *,
    ssh: Callable[[str], list[str]],
    scripts: GuestScripts,
    confine: Sequence[str] = (),
    choice: TransportChoice = TransportChoice.AUTO,
    host_os: HostOS | None = None,
) -> FolderSettings:
    """Make settings whose files are in `directory`. `host_os` is this host's if it is None."""
    return FolderSettings(
        ssh=ssh,
        scripts=scripts,
        confine=confine,
        guest_uid=1000,
        choice=choice,
        relay_changes=False,
        state_file=directory / "folders.json",
        log_file=directory / "folders.log",
        host_os=host_os or current_host().os,
        time_scale=1,
    )
