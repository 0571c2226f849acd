"""File locks by flock(2), which the kernel releases when the last process with the descriptor ends.

A process that holds a lock for long writes its process ID into the lock file. Other processes can then send it a signal
even when its sockets are gone. The ID is valid while the lock is held. Such a lock file is also given a second, hidden
name, by which it is found when somebody has removed it: a new file would be another lock, which nobody holds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from machine.deadline import Deadline
from machine.errors import DeadlineError
from machine.files import FILE_PRIVATE, disk_errors

# Seconds between two attempts: the first ones and, after a while, all further ones.
_FIRST_PAUSE_S = 0.01
_MAX_PAUSE_S = 0.25


def is_held(path: Path) -> bool:
    """Return at once whether a process holds the lock exclusively. If the lock file does not exist, return False."""
    _bring_back(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two probes at the same time do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def acquire(path: Path, *, timeout_s: float = 0.0, shared: bool = False) -> int | None:
    """Take the lock and return its descriptor, or None if another process holds it for all of `timeout_s`.

    Several processes can hold a `shared` lock at the same time, but not while another process holds it exclusively.
    `is_held` takes the lock for a moment, so `timeout_s` should be more than 0. Closing the last copy of the descriptor
    releases the lock.
    """
    _bring_back(path)
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_PRIVATE)
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                os.close(descriptor)
                raise
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(pause_s)
            pause_s = min(_MAX_PAUSE_S, pause_s * 1.1)
        else:
            if not shared:
                _forget_holder(descriptor)
            return descriptor


def keep(path: Path) -> None:
    """Give the lock file, which this process holds, its second name. Some file systems have no such links."""
    hidden, new = _hidden(path), _hidden(path).with_suffix(".new")
    with contextlib.suppress(OSError):
        if not (hidden.exists() and hidden.samefile(path)):
            new.unlink(missing_ok=True)
            new.hardlink_to(path)
            new.replace(hidden)


def _bring_back(path: Path) -> None:
    """If a lock file was removed that has a second name, give it its first name again."""
    if not path.exists():
        with contextlib.suppress(OSError):
            path.hardlink_to(_hidden(path))


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def write_holder(descriptor: int, pid: int) -> None:
    """Write the ID of the process that will hold the lock into the lock file.

    A file that has held an ID before needs no more space, so this works on a full disk.
    """
    text = str(pid).encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _forget_holder(descriptor: int) -> None:
    """Remove the process ID from the lock file. A blank stays, and keeps the space that the next ID needs."""
    if os.fstat(descriptor).st_size:
        os.pwrite(descriptor, b" ", 0)
        os.ftruncate(descriptor, 1)


def holder_pid(path: Path) -> int | None:
    """Return the process ID in the lock file. Return None if nobody holds the lock, or if the file has no ID."""
    if not is_held(path):
        return None
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def signal_holder(path: Path, number: signal.Signals) -> bool:
    """Send a signal to the process that holds the lock. Return whether there is such a process."""
    pid = holder_pid(path)
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end_holder(path: Path, *, patience_s: float) -> bool:
    """End the process that holds the lock, and return whether there was one. After `patience_s`, kill the process.

    Raises:
        DeadlineError: the process cannot be killed.
    """
    if not signal_holder(path, signal.SIGTERM):
        return False
    deadline = Deadline.after(patience_s, "a process to end")
    while is_held(path) and not deadline.passed:
        time.sleep(_FIRST_PAUSE_S)
    if signal_holder(path, signal.SIGKILL):
        Deadline.after(patience_s, "a killed process to end").wait_until(lambda: not is_held(path))
    return True


@contextlib.contextmanager
def exclusively(
    path: Path, *, timeout_s: float, waits_for: str | None = None, on_wait: Callable[[], None] = lambda: None
) -> Iterator[bool]:
    """Hold the lock during the block. Yield whether another process had to release the lock first.

    `on_wait` is called if the lock is not free at once. `waits_for` completes the error "timed out waiting for …".

    Raises:
        DeadlineError: another process holds the lock for all of `timeout_s`.
    """
    with held(path) as free:
        if free:
            yield False
            return
    on_wait()
    with held(path, timeout_s=timeout_s) as free:
        if not free:
            raise _timed_out(path, timeout_s, waits_for)
        yield True


@contextlib.contextmanager
def shared(path: Path, *, timeout_s: float, waits_for: str | None = None) -> Iterator[None]:
    """Hold the lock during the block, shared with other processes.

    Raises:
        DeadlineError: another process holds the lock exclusively for all of `timeout_s`.
    """
    with held(path, timeout_s=timeout_s, shared=True) as free:
        if not free:
            raise _timed_out(path, timeout_s, waits_for)
        yield


@contextlib.contextmanager
def held(path: Path, *, timeout_s: float = 0.0, shared: bool = False) -> Iterator[bool]:
    """Try to hold the lock during the block. Yield whether the lock could be taken within `timeout_s`."""
    descriptor = acquire(path, timeout_s=timeout_s, shared=shared)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _timed_out(path: Path, timeout_s: float, waits_for: str | None) -> DeadlineError:
    return DeadlineError(
        f"timed out after {timeout_s:.0f} s waiting for {waits_for or f'another command to release {path}'}"
    )
