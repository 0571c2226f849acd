"""Save the folders and their transports for a supervisor that takes over the running QEMU."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from machine.errors import MachineError
from machine.files import write_atomic
from machine.folders.transports import MountedFolder
from machine.model.folders import read_folder
from machine.model.transport import Transport

log = logging.getLogger(__name__)

_NO_TRANSPORT = "no transport was found for the folder when the machine started"


def save_folders(folders: Sequence[MountedFolder], path: Path) -> None:
    """Save the folders in the file `path`. If the file cannot be written, only log the error."""
    try:
        write_atomic(path, json.dumps([[str(each.folder), each.transport, each.problem] for each in folders]))
    except (MachineError, OSError) as error:
        log.error("cannot write %s: %s", path, error)


def load_folders(path: Path) -> list[MountedFolder]:
    """Return the folders that an earlier supervisor has saved in the file `path`, or none if there is no valid file."""
    try:
        return [
            MountedFolder(
                folder=read_folder(text),
                transport=Transport(transport) if transport else None,
                problem=problems[0] if problems else None if transport else _NO_TRANSPORT,
            )
            for text, transport, *problems in json.loads(path.read_text())  # older versions saved no problem
        ]
    except (OSError, ValueError, TypeError) as error:
        log.info("no folders of an earlier supervisor: %s", error)
        return []
