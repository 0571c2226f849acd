"""New machines: each is made in a hidden directory, which one rename turns into the machine."""

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
    """Hold the names lock for the block: one command at a time takes names and ports and registers clients.

    Raises:
        DeadlineError: another command holds the lock for a minute.
    """
    with lock.exclusively(roots.names_lock, timeout_s=_NAMES_LOCK_S):
        yield


@contextlib.contextmanager
def draft(roots: Roots, name: str) -> Iterator[MachinePaths]:
    """Make a private directory for a new machine's files, which goes after the block unless it was published."""
    make_private(roots.machines)
    # A `sweep` must not run between these two steps: until its lock is held, the directory looks abandoned.
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
    """Turn a draft into the machine `name`.

    Raises:
        BadInputError: there is a machine of that name by now.
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


def withdraw(roots: Roots, name: str) -> None:
    """Remove the machine `name`: hide it first, so that nobody sees a part of it, then delete its files."""
    paths = roots.machine(name)
    directory = paths.directory
    hidden = directory.with_name(f".{name}.{os.getpid()}{_SUFFIX}")
    directory.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
    shutil.rmtree(paths.runtime, ignore_errors=True)
    with contextlib.suppress(OSError):  # other machines have theirs there
        paths.runtime.parent.rmdir()


def leftovers(roots: Roots) -> list[Path]:
    """Return the directories that killed processes left half-made or half-removed: nobody holds their locks."""
    return [
        directory for directory in sorted(roots.machines.glob(f".*{_SUFFIX}")) if not lock.is_held(directory / "lock")
    ]


def sweep(roots: Roots) -> None:
    """Remove what killed processes left half-made or half-removed."""
    for directory in roots.machines.glob(f".*{_SUFFIX}"):
        with (
            contextlib.suppress(FileNotFoundError),
            lock.held(directory / "lock") as free,
        ):  # another process has removed it
            if free:
                shutil.rmtree(directory, ignore_errors=True)
