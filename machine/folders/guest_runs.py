"""Run the folder scripts in the guest."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from machine import async_runner
from machine.errors import DeadlineError, MachineError
from machine.folders.guest import GuestReport, mount_command, parse_release, parse_report, release_command
from machine.folders.settings import FolderSettings
from machine.model.folders import Folder
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport

log = logging.getLogger(__name__)

_SCRIPT_S = 20.0


async def mount_in_guest(
    settings: FolderSettings,
    folders: Sequence[tuple[Folder, Transport]],
    *,
    connected: Collection[Folder],
    ended: Collection[Folder],
) -> GuestReport | Obstacle:
    """Make the guest mount these folders, and unmount all others. Return its report, or why it cannot be reached.

    `connected` and `ended` have the same meaning as in `mount_command`.
    """
    output = await _run(settings, mount_command(folders, connected, ended), settings.scripts.mount)
    if isinstance(output, Obstacle):
        return output
    return parse_report(output, len(folders)) or Obstacle("the script that mounts folders failed")


async def release_in_guest(settings: FolderSettings, folders: Iterable[Folder]) -> Obstacle | None:
    """Make the guest unmount these folders, all or none. Return why they are still mounted, or None if they are not."""
    output = await _run(settings, release_command(folders), settings.scripts.release)
    return output if isinstance(output, Obstacle) else parse_release(output)


async def _run(settings: FolderSettings, command: str, script: str) -> str | Obstacle:
    timeout_s = _SCRIPT_S * settings.time_scale
    try:
        done = await async_runner.run(settings.ssh(command), stdin=script, timeout_s=timeout_s, check=False)
    except DeadlineError:
        return Obstacle("the machine does not answer")
    except MachineError as error:
        return Obstacle(error.message)
    log.info("folders in the guest: %s %s", done.stdout.splitlines(), done.stderr.strip())
    return done.stdout
