"""Notice when a base image in the cache has changed since it was made, and compare its content with its digest.

The file `intact.json` beside a base image has the sha256 of the image's file, and the size and the time of change that
the file had when it last had this sha256. They are missing if the image is known to be damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from machine.errors import DiskError, MachineError, reason_of
from machine.files import write_atomic
from machine.image.layout import digest_of

NOTE = "intact.json"
_CHUNK_BYTES = 1024**2


class Condition(StrEnum):
    """Whether a base image has the content that it was made with."""

    INTACT = "intact"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"
    """An earlier version has fetched the image, and did not note the sha256 of an image that it had converted."""


def note_intact(image: Path, sha256: str) -> None:
    """Note that a base image is intact as it is now, and which sha256 its file has.

    Raises:
        DiskError: the note cannot be written.
    """
    write_atomic(image.with_name(NOTE), json.dumps({"sha256": sha256, **_stamp(image)}) + "\n")


def has_changed(image: Path) -> bool:
    """Return whether a base image is damaged or has been written to, as far as its size and its time of change tell.

    Return False if the image is missing, or if an earlier version, which noted nothing, has fetched it.
    """
    noted = _noted(image)
    try:
        return noted is not None and {**noted, **_stamp(image)} != noted
    except OSError:
        return False


def examine(image: Path, on_progress: Callable[[int], None]) -> Condition:
    """Read a base image, and return whether it has the sha256 that it was made with. Note the result.

    `on_progress` is called with the number of bytes that have been read. If it raises an exception, reading ends.

    Raises:
        MachineError: the image cannot be read.
    """
    noted = _noted(image)
    expected = noted["sha256"] if noted else digest_of(image.parent)
    if _sha256(image, on_progress) == expected:
        with contextlib.suppress(DiskError):  # the cache of a read-only home
            note_intact(image, str(expected))
        return Condition.INTACT
    if noted is None:
        return Condition.UNKNOWN
    with contextlib.suppress(DiskError):
        write_atomic(image.with_name(NOTE), json.dumps({"sha256": expected}) + "\n")
    return Condition.DAMAGED


def _sha256(image: Path, on_progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    try:
        with image.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                on_progress(stream.tell())
    except OSError as error:
        raise MachineError(f"cannot read {image}: {reason_of(error)}") from error
    return digest.hexdigest()


def _stamp(image: Path) -> dict[str, object]:
    found = image.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _noted(image: Path) -> dict[str, object] | None:
    try:
        noted = json.loads(image.with_name(NOTE).read_bytes())
    except (OSError, ValueError):
        return None
    return noted if isinstance(noted, dict) and "sha256" in noted else None
