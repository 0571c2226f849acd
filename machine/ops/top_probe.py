"""Part of `machine top`: measure what the processes and the disk of a machine use."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from machine import lock
from machine.model.state import State
from machine.model.units import GIB, MIB
from machine.ops.list import ListedMachine
from machine.store.paths import MachinePaths

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's block size is

_VIRTIOFSD = "virtiofsd"


@dataclass(frozen=True, kw_only=True)
class ProcessSample:
    """One process, and the resources that it has used since it started."""

    pid: int
    started: float
    """When the process started, in seconds since the epoch."""

    cpu_s: float
    memory_bytes: int
    storage: tuple[int, int] | None
    """The numbers of bytes that the process has read from and written to storage. None if they are unknown."""

    @property
    def key(self) -> tuple[int, float]:
        """The process's id and start time, which together distinguish it from a later process with the same id."""
        return self.pid, self.started


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The resources that a machine had used up to the moment `time`."""

    name: str
    state: State
    time: float
    monotonic_s: float
    processes: tuple[ProcessSample, ...]
    memory_limit_bytes: int
    disk_bytes: int | None
    disk_size_bytes: int
    is_remote: bool = False
    """Whether the machine is a host over SSH. The processes are then those of the connection alone."""


def probe(listed: ListedMachine) -> Sample:
    """Take a sample of a machine now."""
    resources = listed.record.config.resources
    return Sample(
        name=listed.record.name,
        state=listed.state.state,
        time=time.time(),
        monotonic_s=time.monotonic(),
        processes=tuple(_process_samples(listed.paths)) if listed.state.state.has_processes else (),
        memory_limit_bytes=resources.memory_mib * MIB,
        disk_bytes=_allocated_bytes(listed.paths),
        disk_size_bytes=resources.disk_gib * GIB,
        is_remote=listed.record.config.remote is not None,
    )


def _allocated_bytes(paths: MachinePaths) -> int | None:
    """Return how many bytes the machine's overlay takes on this host's disk. The base image is not counted."""
    try:
        return paths.disk.stat().st_blocks * _BLOCK_BYTES
    except OSError:
        return None


def _process_samples(paths: MachinePaths) -> Iterator[ProcessSample]:
    """Yield samples of QEMU, the supervisor and each virtiofsd, and of all child processes of these."""
    qemu = lock.holder_pid(paths.lock)
    roots = [*filter(None, (lock.holder_pid(paths.supervisor_lock), qemu)), *(_virtiofsds(qemu) if qemu else ())]
    for process in {process.pid: process for root in roots for process in _tree(root)}.values():
        try:
            yield _process_sample(process, is_qemu=process.pid == qemu)
        except psutil.Error:  # the process has just ended
            continue


def _virtiofsds(qemu: int) -> Iterator[int]:
    """Find the virtiofsd processes of the machine, even after their supervisor has ended.

    The supervisor started QEMU and the virtiofsds, so these are all in one process group. The process group is visible
    even if a process is in another namespace, where /proc hides open files such as the machine's lock.
    """
    try:
        group = os.getpgid(qemu)
    except ProcessLookupError:
        return
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(pid) == group and psutil.Process(pid).name().startswith(_VIRTIOFSD):
                yield pid


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _process_sample(process: psutil.Process, *, is_qemu: bool) -> ProcessSample:
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        # The shared memory of helpers is mostly the guest's memory, which is already included in QEMU's figure.
        shared = 0 if is_qemu else getattr(memory, "shared", 0)
        return ProcessSample(
            pid=process.pid,
            started=process.create_time(),
            cpu_s=times.user + times.system,
            memory_bytes=memory.rss - shared,
            storage=_storage(process),
        )


def _storage(process: psutil.Process) -> tuple[int, int] | None:
    """Return how many bytes the process has read from and written to storage.

    Return None on macOS, and on Linux for processes of other users.
    """
    if sys.platform == "linux":
        with contextlib.suppress(psutil.AccessDenied):
            counters = process.io_counters()
            return counters.read_bytes, counters.write_bytes
    return None
