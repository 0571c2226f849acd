"""Load and save the records of machines. Each record is a JSON file with a schema number, written atomically.

A record of an older schema is migrated in memory. The next edit writes the record in the present schema.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from machine import lock
from machine.errors import MachineError, NotFoundError, reason_of
from machine.files import write_atomic
from machine.model.record import MachineRecord
from machine.store.fields import FieldError
from machine.store.names import check_exists, machine_names
from machine.store.paths import MachinePaths, Roots
from machine.store.record_document import SCHEMA, NewerSchemaError, dump, parse

_EDIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class BrokenRecord:
    """A machine whose record cannot be read."""

    name: str
    error: MachineError


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
    record = load_file(paths.record)
    name = paths.directory.name
    if record.name == name:
        return record
    if record.pending.renamed_from == name:  # a rename was interrupted before the directory was moved
        return replace(
            record, config=replace(record.config, name=name), pending=replace(record.pending, renamed_from=None)
        )
    raise _damaged(paths.record, f'it belongs to the machine "{record.name}"')


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
        raise MachineError(
            f"{path} was written by a newer version of this program (schema {error.schema}, this one reads"
            f" up to {SCHEMA})",
            hint="upgrade boot2podman",
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
        return BrokenRecord(name=name, error=error)


def save(paths: MachinePaths, record: MachineRecord) -> None:
    """Write the record of a machine whose directory exists."""
    write_atomic(paths.record, json.dumps(dump(record), indent=2) + "\n")


def edit(paths: MachinePaths, change: Callable[[MachineRecord], MachineRecord]) -> MachineRecord:
    """Apply `change` to a machine's record while holding the record's lock, and return the new record.

    Raises:
        MachineError: the record is damaged or cannot be written.
    """
    with lock.exclusively(paths.record_lock, timeout_s=_EDIT_S):
        record = change(_load_own(paths))
        save(paths, record)
    return record


def _damaged(path: Path, reason: str) -> MachineError:
    return MachineError(
        f"the record {path} is damaged: {reason}",
        hint=f"restore the file, or remove the machine with: machine rm --force {path.parent.name}",
    )
