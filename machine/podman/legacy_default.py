"""Find the default connection of an old Podman, and remember it, because running that client takes 0.1 s."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from machine.errors import MachineError
from machine.files import make_directory, write_atomic
from machine.model.dataclass import dataclass
from machine.podman.connections import CLIENTS, Connection


@dataclass(frozen=True, kw_only=True)
class LegacyDefault:
    """The default connection of an old Podman, or None if it has no default."""

    connection: Connection | None


def legacy_default(files: Sequence[Path], cache: Path) -> LegacyDefault | None:
    """Return the default connection of the Podman on PATH if that is an old one. Return None if it is not.

    `files` make up Podman's containers.conf. The file `cache` keeps the answer until one of them, or the client, is
    replaced or written to.

    Raises:
        MachineError: the client failed.
    """
    mark = _mark(files)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        document = json.loads(cache.read_bytes())
        if document["mark"] == mark:
            return _read(document["default"])
    found = _ask()
    default = found and {"connection": found.connection and [found.connection.name, found.connection.uri]}
    with contextlib.suppress(MachineError, OSError):  # it is only slower without
        make_directory(cache.parent)
        write_atomic(cache, json.dumps({"mark": mark, "default": default}))
    return found


def _read(default: dict[str, list[str] | None] | None) -> LegacyDefault | None:
    if default is None:
        return None
    match default["connection"]:
        case [name, uri]:
            return LegacyDefault(connection=Connection(name=name, uri=uri))
        case _:
            return LegacyDefault(connection=None)


def _ask() -> LegacyDefault | None:
    from machine.podman.legacy_connections import LegacyClient  # not for a remembered answer

    client = LegacyClient.find(has_connections=True)
    return LegacyDefault(connection=client.default_connection()) if client else None


def _mark(files: Iterable[Path]) -> list[list[str | int]]:
    """Return what changes with every file that decides on the answer."""
    programs = [Path(path) for path in map(shutil.which, CLIENTS) if path]
    return [[str(path), *_state(path)] for path in (*files, *programs)]


def _state(path: Path) -> list[int]:
    try:
        facts = path.stat()
    except OSError:
        return []
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns]
