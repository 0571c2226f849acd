"""Keep the snapshots of a machine: a directory for each, whose files have the names that they have in the machine's.

A directory has the record, the UEFI variables and the saved memory, if there is one. The content of the disk stays in
the machine's disk file, as a snapshot of qcow2. A directory is hidden until it is complete, and again while it is being
removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from machine.errors import MachineError, NotFoundError, reason_of
from machine.files import (
    DIRECTORY_PRIVATE,
    FILE_PRIVATE,
    disk_errors,
    fsync_directory,
    fsync_file,
    share_blocks,
    write_atomic,
)
from machine.model.names import similar_words
from machine.model.record import MachineRecord
from machine.model.snapshot import Snapshot
from machine.store import records
from machine.store.fields import Fields
from machine.store.names import snapshot_names
from machine.store.paths import MachinePaths, is_suspended

_FACTS = "snapshot.json"
_SUFFIX = ".tmp"
_TAG_PREFIX = "machine-"


@dataclass(frozen=True, kw_only=True)
class KnownSnapshots:
    """The snapshots of a machine, the oldest first, and an error for each that cannot be read."""

    snapshots: list[Snapshot]
    broken: list[MachineError]


def folder(paths: MachinePaths, name: str) -> MachinePaths:
    """Return the paths of a snapshot's files, which are named as the machine's own."""
    return MachinePaths(directory=paths.snapshots / name, runtime=paths.runtime)


def check_exists(machine: str, paths: MachinePaths, name: str) -> None:
    """Check that the machine has the snapshot, even if its files are damaged.

    Raises:
        NotFoundError: the machine has no such snapshot. The hint suggests names.
    """
    known = snapshot_names(paths)
    if name not in known:
        near = similar_words(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"see: machine snapshot ls {machine}"
        raise NotFoundError(f'"{machine}" has no snapshot "{name}"', hint=hint)


def load(machine: str, paths: MachinePaths, name: str) -> Snapshot:
    """Load what is known about a snapshot.

    Raises:
        NotFoundError: the machine has no such snapshot.
        MachineError: the snapshot's files are damaged.
    """
    check_exists(machine, paths, name)
    files = folder(paths, name)
    try:
        fields = Fields(_document(files.directory / _FACTS))
        return Snapshot(
            name=name,
            created=fields.moment("created"),
            comment=fields.optional_text("comment"),
            tag=fields.text("tag"),
            record=records.load_file(files.record),
            memory_bytes=files.memory.stat().st_blocks * 512 if is_suspended(files) else None,
        )
    except (OSError, ValueError, MachineError) as error:
        reason = error.message if isinstance(error, MachineError) else reason_of(error)
        raise MachineError(
            f'the snapshot "{name}" of "{machine}" is damaged: {reason}',
            hint=f"remove it with: machine snapshot rm {machine} {name}",
        ) from error


def load_all(machine: str, paths: MachinePaths) -> KnownSnapshots:
    """Load all snapshots of a machine."""
    found: list[Snapshot] = []
    broken: list[MachineError] = []
    for name in snapshot_names(paths):
        try:
            found.append(load(machine, paths, name))
        except NotFoundError:  # it was removed after it was listed
            continue
        except MachineError as error:
            broken.append(error)
    return KnownSnapshots(snapshots=sorted(found, key=lambda snapshot: snapshot.created), broken=broken)


def _document(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise MachineError(f"{path} is not JSON") from error


def new_tag() -> str:
    return f"{_TAG_PREFIX}{os.urandom(8).hex()}"


@contextlib.contextmanager
def draft(paths: MachinePaths, name: str, *, tag: str, comment: str | None, record: MachineRecord) -> Iterator[None]:
    """Make the directory of a snapshot that gets its name when the block has ended without an error.

    Raises:
        DiskError: the files cannot be written.
    """
    hidden = MachinePaths(directory=paths.snapshots / f".{tag}{_SUFFIX}", runtime=paths.runtime)
    try:
        with disk_errors(hidden.directory):
            paths.snapshots.mkdir(DIRECTORY_PRIVATE, exist_ok=True)
            hidden.directory.mkdir(DIRECTORY_PRIVATE)
            facts = {"created": datetime.now(UTC).isoformat(), "comment": comment, "tag": tag}
            write_atomic(hidden.directory / _FACTS, json.dumps(facts))
            records.save(hidden, record)
            copy_files(paths, hidden)
            copy_memory(paths.memory, hidden.memory)
            if is_suspended(paths):
                write_atomic(hidden.suspension, paths.suspension.read_bytes())
        yield
        with disk_errors(hidden.directory):
            fsync_directory(hidden.directory)
            hidden.directory.rename(paths.snapshots / name)
            fsync_directory(paths.snapshots)
    except BaseException:
        shutil.rmtree(hidden.directory, ignore_errors=True)
        raise


def copy_files(source: MachinePaths, target: MachinePaths) -> None:
    """Copy the UEFI variables and what rekeys a guest. What the source does not have is removed from the target.

    Raises:
        DiskError: the files cannot be written.
    """
    for before, after in ((source.efi_vars, target.efi_vars), (source.rekey_table, target.rekey_table)):
        with disk_errors(after):
            try:
                write_atomic(after, before.read_bytes())
            except FileNotFoundError:
                after.unlink(missing_ok=True)


def copy_memory(memory: Path, target: Path) -> None:
    """Give a saved memory, if there is one, a second name or, on file systems that cannot, a copy.

    Nothing ever writes to a saved memory again, so the two names can share one file.

    Raises:
        DiskError: the memory cannot be copied.
    """
    target.unlink(missing_ok=True)
    if not memory.exists():
        return
    with contextlib.suppress(OSError):
        target.hardlink_to(memory)
        return
    with disk_errors(target):
        if not share_blocks(memory, target):
            shutil.copyfile(memory, target)
        target.chmod(FILE_PRIVATE)
        fsync_file(target)


def hide(paths: MachinePaths, name: str) -> Path:
    """Take a snapshot away from its machine at once, and return its directory's new path.

    Raises:
        DiskError: the directory cannot be renamed.
    """
    hidden = paths.snapshots / f".{new_tag()}{_SUFFIX}"
    with disk_errors(hidden):
        (paths.snapshots / name).rename(hidden)
        fsync_directory(paths.snapshots)
    return hidden


def remove_leftovers(paths: MachinePaths) -> None:
    """Remove the directories that `hide` and killed programs have left. The caller must hold the machine's lock."""
    for directory in paths.snapshots.glob(f".*{_SUFFIX}"):
        shutil.rmtree(directory, ignore_errors=True)


def unused_tags(machine: str, paths: MachinePaths, tags: list[str]) -> list[str]:
    """Return those of the tags in the machine's disk file that were made for snapshots which do not exist any more.

    Tags that other programs have made are left alone. If a snapshot cannot be read, its tag is not known, so that none
    can be called unused.
    """
    known = load_all(machine, paths)
    if known.broken:
        return []
    used = {snapshot.tag for snapshot in known.snapshots}
    return [tag for tag in tags if tag.startswith(_TAG_PREFIX) and tag not in used]
