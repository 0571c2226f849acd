"""Save the folders and their transports for a supervisor that takes over the running QEMU."""

from __future__ import annotations

import json
import logging
import os
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
        write_atomic(path, json.dumps([_entry(each) for each in folders]))
    except (MachineError, OSError) as error:
        log.error("cannot write %s: %s", path, error)


def load_folders(path: Path) -> list[MountedFolder]:
    """Return the folders that an earlier supervisor has saved in the file `path`, or none if there is no valid file."""
    try:
        return [_folder(*entry) for entry in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        log.info("no folders of an earlier supervisor: %s", error)
        return []


def _entry(each: MountedFolder) -> tuple[str, Transport | None, str | None, Sequence[str], str]:
    return str(each.folder), each.transport, each.problem, each.virtiofsd, os.fspath(each.socket)


def _folder(
    text: str, transport: str | None, problem: str | None = None, virtiofsd: Sequence[str] = (), socket: str = ""
) -> MountedFolder:
    """Return the folder of one entry. Older versions have saved no socket and no virtiofsd, and still older no problem.

    Raises:
        ValueError: the entry is not valid.
    """
    return MountedFolder(
        folder=read_folder(text),
        transport=Transport(transport) if transport else None,
        problem=problem if transport or problem else _NO_TRANSPORT,
        virtiofsd=tuple(virtiofsd),
        socket=Path(socket),
    )
