"""Describe the snapshots of a machine, and decide what a restore brings back (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count

from machine.errors import BadInputError
from machine.model.names import check_form
from machine.model.record import MachineRecord
from machine.model.state import State

MAX_COMMENT_LENGTH = 200

_DEFAULT_STEM = "snapshot"
_BEFORE_RESTORE = "before-restore"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A state of a machine that was kept, to return to it."""

    name: str
    created: datetime
    comment: str | None
    tag: str
    """The name of the state in the machine's disk file."""

    record: MachineRecord
    """The machine's record at that time."""

    memory_bytes: int | None
    """How much space the guest's memory takes on this host's disk. None if the machine was stopped."""

    @property
    def state(self) -> State:
        """The state of the machine after a restore."""
        return State.STOPPED if self.memory_bytes is None else State.SUSPENDED


def check_snapshot_name(name: str) -> str:
    """Check that a snapshot can have this name, and return the name.

    Raises:
        BadInputError: the name is too long, or contains a character that names cannot have.
    """
    check_form(name, of="snapshot")
    return name


def checked_comment(text: str | None) -> str | None:
    """Return the comment, or None if it is empty.

    Raises:
        BadInputError: the comment is too long, or would not fit into a line of a table.
    """
    if not text:
        return None
    if len(text) > MAX_COMMENT_LENGTH:
        raise BadInputError(f"the comment must be {MAX_COMMENT_LENGTH} characters or less")
    if not text.isprintable():
        raise BadInputError("the comment must be one line of printable characters")
    return text


def default_name(taken: Collection[str]) -> str:
    """Return a name for a snapshot that the user has not named: snapshot1, snapshot2 and so on."""
    return _first_free((f"{_DEFAULT_STEM}{number}" for number in count(1)), taken)


def name_before_restore(taken: Collection[str]) -> str:
    """Return a name for the state that a restore replaces: before-restore, before-restore2 and so on."""
    return _first_free((f"{_BEFORE_RESTORE}{number if number > 1 else ''}" for number in count(1)), taken)


def _first_free(names: Iterator[str], taken: Collection[str]) -> str:
    lower = {name.lower() for name in taken}  # not every file system tells `Snapshot1` and `snapshot1` apart
    return next(name for name in names if name not in lower)


def as_of(snapshot: MachineRecord, present: MachineRecord) -> MachineRecord:
    """Return the record of a machine that returns to a snapshot with the record `snapshot`.

    What describes the disk, the memory and the guest returns. Other settings, such as the machine's name, ports and
    folders, stay as they are now, and the next start brings the guest up to date with them.
    """
    then = snapshot.config
    config = replace(present.config, resources=then.resources, usbs=then.usbs, timezone=then.timezone)
    pending = replace(snapshot.pending, renamed_from=present.pending.renamed_from, guest_outdated=True, restoring=None)
    return replace(present, config=config, pending=pending, guest=snapshot.guest)
