"""Create and remove the directories of machines. A directory is hidden while it is incomplete."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from machine import lock
from machine.errors import BadInputError
from machine.files import disk_errors, fsync_directory
from machine.store.paths import MachinePaths, Roots, make_private

_SUFFIX = ".tmp"
_NAMES_LOCK_S = 60.0


@contextlib.contextmanager
def names_lock(roots: Roots) -> Iterator[None]:
    """Hold the names lock during the block.

    Meanwhile no other command can take a machine's name or SSH port, or register a machine with clients.

    Raises:
        DeadlineError: another command still held the lock after a minute.
    """
    with lock.exclusively(roots.names_lock, timeout_s=_NAMES_LOCK_S):
        yield


@contextlib.contextmanager
def draft(roots: Roots, name: str) -> Iterator[MachinePaths]:
    """Make a hidden private directory for a new machine. After the block, remove it, unless it was published."""
    make_private(roots.machines)
    # The names lock keeps `remove_leftovers` out, since the directory looks abandoned until its own lock is held.
    with disk_errors(roots.machines), names_lock(roots):
        directory = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_SUFFIX, dir=roots.machines))
        paths = MachinePaths(directory=directory, runtime=roots.machine(name).runtime)
        descriptor = lock.acquire(paths.lock)
        paths.runtime_link.symlink_to(paths.runtime)
    try:
        yield paths
    finally:
        if descriptor is not None:
            os.close(descriptor)
        shutil.rmtree(directory, ignore_errors=True)


def publish(paths: MachinePaths, roots: Roots, name: str) -> None:
    """Turn a draft into the machine `name` by giving the draft's directory its final name.

    Raises:
        BadInputError: a machine of that name has been made in the meantime.
    """
    for entry in paths.directory.iterdir():
        if entry == paths.runtime_link:
            continue
        with entry.open("rb") as stream:
            os.fsync(stream.fileno())
    fsync_directory(paths.directory)
    try:
        paths.directory.rename(roots.machine(name).directory)
    except OSError as error:
        raise BadInputError(f'machine "{name}" already exists') from error
    fsync_directory(roots.machines)


def remove(roots: Roots, name: str) -> None:
    """Delete the directory of the machine `name`, after giving it a hidden name, so that no one sees half a machine."""
    paths = roots.machine(name)
    directory = paths.directory
    hidden = directory.with_name(f".{name}.{os.getpid()}{_SUFFIX}")
    directory.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
    shutil.rmtree(paths.runtime, ignore_errors=True)
    with contextlib.suppress(OSError):  # it contains other machines' directories
        paths.runtime.parent.rmdir()


def find_leftovers(roots: Roots) -> list[Path]:
    """Find hidden directories with locks that no process holds. Killed processes have left these directories behind."""
    return [
        directory for directory in sorted(roots.machines.glob(f".*{_SUFFIX}")) if not lock.is_held(directory / "lock")
    ]


def remove_leftovers(roots: Roots) -> None:
    """Remove the hidden directories that killed processes have left behind."""
    for directory in roots.machines.glob(f".*{_SUFFIX}"):
        with (
            contextlib.suppress(FileNotFoundError),
            lock.held(directory / "lock") as free,
        ):  # another process has removed it
            if free:
                shutil.rmtree(directory, ignore_errors=True)
