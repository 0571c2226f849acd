"""File locks that vanish with the processes that hold them: flock, whose descriptor QEMU inherits.

A lock that a process holds for long tells that process's id in the file. It is true while the lock is held, and
the way to a process whose sockets are gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from machine.errors import DeadlineError
from machine.files import FILE_PRIVATE, disk_errors


def is_held(path: Path) -> bool:
    """One probe that does not block; a lock file that does not exist is held by nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared probe: two `ls` at once do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def acquire(path: Path, *, timeout_s: float = 0.0) -> int | None:
    """Take the lock and return its descriptor, or None when another holds it for all of `timeout_s`.

    A little patience outlasts the probes of `is_held`. Whoever closes the last copy of the descriptor
    gives the lock back.
    """
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_PRIVATE)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                os.close(descriptor)
                raise
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.01)
        else:
            os.ftruncate(descriptor, 0)
            return descriptor


def tell_holder(descriptor: int, pid: int) -> None:
    """Write into the lock's file who is going to hold it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(pid).encode(), 0)


def holder(path: Path) -> int | None:
    """The process that holds the lock; None where none does, or not for long."""
    if not is_held(path):
        return None
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def signal_holder(path: Path, number: signal.Signals) -> bool:
    """Send a signal to the process that holds the lock; returns whether there was one."""
    pid = holder(path)
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def exclusively(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock for the block.

    Raises:
        DeadlineError: another process holds it for all of `timeout_s`.
    """
    with held(path, timeout_s=timeout_s) as free:
        if not free:
            raise DeadlineError(f"timed out after {timeout_s:.0f} s waiting for another command to let go of {path}")
        yield


@contextlib.contextmanager
def held(path: Path, *, timeout_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock for the block; yields whether it was free."""
    descriptor = acquire(path, timeout_s=timeout_s)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)
