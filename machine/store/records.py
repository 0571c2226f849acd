"""Load and save the records of machines. Each record is a JSON file with a schema number, written atomically.

A record of an older schema is migrated in memory. The next edit writes the record in the present schema. A copy of each
record is kept, in case another program damages the record.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from machine import lock
from machine.errors import MachineError, NotFoundError, Page, reason_of
from machine.files import disk_errors, write_atomic
from machine.model.dataclass import dataclass
from machine.model.record import MachineRecord
from machine.store.fields import FieldError
from machine.store.names import check_exists, machine_names
from machine.store.paths import MachinePaths, Roots
from machine.store.record_document import SCHEMA, NewerSchemaError, dump, parse

if TYPE_CHECKING:
    import logging

UPGRADE = "upgrade boot2podman"
"""The hint for a program that is too old for a record; supervisors of older programs give it, too."""

_EDIT_S = 10.0


class DamagedRecordError(MachineError):
    """A record is missing, or its content is not that of a record."""


class NewerRecordError(MachineError):
    """A record was written by a newer program."""


def older_supervisor(name: str, problem: str) -> MachineError:
    """Return the error for a machine whose record the supervisor cannot read, because an older program started it."""
    return MachineError(
        f"{name} still runs under an older version of this program, which cannot read the record",
        details=[problem],
        hint=f"restart the machine: machine restart {name}",
    )


@dataclass(frozen=True, kw_only=True)
class BrokenRecord:
    """A machine whose record cannot be read."""

    name: str
    error: MachineError
    last_good: MachineRecord | None = None
    """The copy of the record; None if the copy cannot be read either."""


def load(roots: Roots, name: str) -> MachineRecord:
    """Load the record of the machine `name`.

    Raises:
        NotFoundError: the machine does not exist.
        MachineError: the machine's record is damaged, or was written by a newer program.
    """
    check_exists(roots, name)
    return _load_own(roots.machine(name))


def _load_own(paths: MachinePaths) -> MachineRecord:
    """Load the record in a machine's directory, and check that it is the record of that machine."""
    return _checked(load_file(paths.record), paths)


def _checked(record: MachineRecord, paths: MachinePaths) -> MachineRecord:
    name = paths.directory.name
    if record.name == name:
        return record
    if record.pending.renamed_from == name:  # a rename was interrupted before the directory was moved
        return replace(
            record, config=replace(record.config, name=name), pending=replace(record.pending, renamed_from=None)
        )
    raise _damaged(paths.record, f'it belongs to the machine "{record.name}"')


def load_last_good(paths: MachinePaths) -> MachineRecord:
    """Load the record in a machine's directory or, if it is damaged, its last good copy.

    Raises:
        MachineError: the record is damaged and there is no copy, or a newer program has written the record.
    """
    try:
        return _load_own(paths)
    except DamagedRecordError:
        if copy := _load_copy(paths):
            return copy
        raise


def _load_copy(paths: MachinePaths) -> MachineRecord | None:
    try:
        return _checked(load_file(paths.last_good_record), paths)
    except MachineError as error:
        _log().info("%s", error)
        return None


def load_file(path: Path) -> MachineRecord:
    """Load a record from a file, without checking its name.

    Raises:
        MachineError: the record is damaged, or was written by a newer program.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _damaged(path, "it is missing") from error
    except OSError as error:
        raise MachineError(f"cannot read {path}: {reason_of(error)}") from error
    except ValueError as error:
        raise _damaged(path, f"not JSON ({reason_of(error)})") from error
    try:
        return parse(document)
    except FieldError as error:
        raise _damaged(path, str(error)) from error
    except NewerSchemaError as error:
        raise NewerRecordError(
            f"{path} was written by a newer version of this program (schema {error.schema}, this one reads"
            f" up to {SCHEMA})",
            hint=UPGRADE,
        ) from error


def load_all(roots: Roots) -> list[MachineRecord | BrokenRecord]:
    """Load the records of all machines, sorted by name."""
    found: list[MachineRecord | BrokenRecord] = []
    for name in machine_names(roots):
        with contextlib.suppress(NotFoundError):  # the machine was removed after it was listed
            found.append(find(roots, name))
    return found


def load_readable(roots: Roots) -> list[MachineRecord]:
    """Load the records of all machines whose records can be read, sorted by name."""
    return [entry for entry in load_all(roots) if isinstance(entry, MachineRecord)]


def find(roots: Roots, name: str) -> MachineRecord | BrokenRecord:
    """Load the record of the machine `name`. If the record cannot be read, return a BrokenRecord.

    Raises:
        NotFoundError: the machine does not exist.
    """
    try:
        return load(roots, name)
    except NotFoundError:
        raise
    except MachineError as error:
        return BrokenRecord(name=name, error=error, last_good=_load_copy(roots.machine(name)))


def save(paths: MachinePaths, record: MachineRecord) -> None:
    """Write the record of a machine whose directory exists, and a copy."""
    text = json.dumps(dump(record), indent=2) + "\n"
    write_atomic(paths.record, text)
    try:
        write_atomic(paths.last_good_record, text)
    except (MachineError, OSError) as error:
        _log().warning("cannot keep a copy of the record: %s", error)


def restore(paths: MachinePaths, remembered: MachineRecord) -> bool:
    """If a machine's record is damaged, replace it, and return True. The damaged file is kept under another name.

    The new record is the last good copy. If there is no such copy, it is `remembered`, which lacks later changes by
    other commands.

    Raises:
        MachineError: the record cannot be written, or a newer program has written it.
    """
    with lock.exclusively(paths.record_lock, timeout_s=_EDIT_S):
        try:
            _load_own(paths)
        except DamagedRecordError as error:
            _log().warning("%s", error)
        else:
            return False
        with contextlib.suppress(FileNotFoundError), disk_errors(paths.damaged_record):
            paths.record.replace(paths.damaged_record)
        save(paths, _load_copy(paths) or remembered)
    return True


def edit(paths: MachinePaths, change: Callable[[MachineRecord], MachineRecord]) -> MachineRecord:
    """Apply `change` to a machine's record while holding the record's lock, and return the new record.

    Raises:
        MachineError: the record is damaged or cannot be written.
    """
    with lock.exclusively(paths.record_lock, timeout_s=_EDIT_S):
        record = change(_load_own(paths))
        save(paths, record)
    return record


def _damaged(path: Path, reason: str) -> DamagedRecordError:
    copy = MachinePaths(directory=path.parent, runtime=path.parent).last_good_record
    remove = f"remove the machine with: machine rm --force {path.parent.name}"
    hint = f"restore the file, or {remove}"
    if path != copy and copy.exists():
        import shlex  # most commands find no damage

        hint = f"restore its last good copy with: {shlex.join(['cp', str(copy), str(path)])}"
    return DamagedRecordError(f"the record {path} is damaged: {reason}", hint=hint, page=Page.FILES)


def _log() -> logging.Logger:
    import logging  # commands such as `machine ls` have nothing to log

    return logging.getLogger(__name__)
