"""Notice what has become of the folders that an earlier supervisor has shared, by asking QEMU."""

from __future__ import annotations

import asyncio
import logging

from machine.errors import MachineError
from machine.folders.server import FolderServer
from machine.qemu import folder_devices
from machine.supervisor.qmp import QmpLink

log = logging.getLogger(__name__)


async def watch_inherited_folders(link: QmpLink, folders: FolderServer, *, every_s: float) -> None:
    """Ask QEMU every `every_s` seconds which folders have lost their virtiofsd or device, and have `folders` know it.

    This never returns.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            plugged = await folder_devices.plugged_tags(link.session())
            ended = await folder_devices.tags_without_server(link.session())
        except MachineError as error:  # the heartbeat reports a QEMU that does not answer
            log.debug("%s", error.line)
            continue
        for each in folders.folders:
            if each.folder.tag in ended:
                folders.daemons.report_end(each.folder)
            elif each.share and each.folder.tag not in plugged:
                folders.note_unplugged(each.folder)
