"""A part of `machine top`: one look at a machine's processes, disk and network."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

from machine import lock, runner
from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.state import State
from machine.model.units import GIB, MIB
from machine.ops.list import ListedMachine
from machine.ops.shared.context import Context
from machine.ops.shared.target import find_target
from machine.ssh.command import ROOT, command_argv
from machine.store.paths import MachinePaths

_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are

# QEMU's user network has no counters, so the guest is asked for those of its network cards; bridges have no device.
_COUNTERS = "; echo; ".join(f"cat /sys/class/net/*/device/net/*/statistics/{kind}_bytes" for kind in ("rx", "tx"))
_ANSWER_S = 5.0
_PATIENCE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class ProcessSample:
    """One process: when it `started` since the epoch, and what it has used since.

    `storage` are the bytes that it has read from and written to storage, None where this host does not tell.
    """

    pid: int
    started: float
    cpu_s: float
    memory_bytes: int
    storage: tuple[int, int] | None

    @property
    def identity(self) -> tuple[int, float]:
        """The process id may be given to another process later."""
        return self.pid, self.started


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One machine at one moment; `network` are the bytes that the guest has received and sent."""

    name: str
    state: State
    time: float
    monotonic_s: float
    processes: tuple[ProcessSample, ...]
    memory_limit_bytes: int
    disk_bytes: int | None
    disk_size_bytes: int
    network: tuple[int, int] | None


def probe(listed: ListedMachine, network: tuple[int, int] | None) -> Sample:
    """Look at a machine now; what its guest has told of its network is known already."""
    resources = listed.record.config.resources
    return Sample(
        name=listed.record.name,
        state=listed.state.state,
        time=time.time(),
        monotonic_s=time.monotonic(),
        processes=tuple(_process_samples(listed.paths)) if listed.state.state is not State.STOPPED else (),
        memory_limit_bytes=resources.memory_mib * MIB,
        disk_bytes=_allocated_bytes(listed.paths),
        disk_size_bytes=resources.disk_gib * GIB,
        network=network,
    )


def _allocated_bytes(paths: MachinePaths) -> int | None:
    """What the overlay takes of this host's disk; machines share the image below it."""
    try:
        return paths.disk.stat().st_blocks * _BLOCK_BYTES
    except OSError:
        return None


def _process_samples(paths: MachinePaths) -> Iterator[ProcessSample]:
    """QEMU, the supervisor and all that they have started."""
    qemu = lock.holder(paths.lock)
    roots = filter(None, (lock.holder(paths.supervisor_lock), qemu))
    for process in {process.pid: process for root in roots for process in _tree(root)}.values():
        try:
            yield _process_sample(process, is_qemu=process.pid == qemu)
        except psutil.Error:  # it has just ended
            continue


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _process_sample(process: psutil.Process, *, is_qemu: bool) -> ProcessSample:
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        # What helpers share is above all the guest's memory, which virtiofsd maps: QEMU has it already.
        shared = 0 if is_qemu else getattr(memory, "shared", 0)
        return ProcessSample(
            pid=process.pid,
            started=process.create_time(),
            cpu_s=times.user + times.system,
            memory_bytes=memory.rss - shared,
            storage=_storage(process),
        )


def _storage(process: psutil.Process) -> tuple[int, int] | None:
    """macOS does not tell, and Linux not of the processes of other users."""
    try:
        counters = process.io_counters()
    except (AttributeError, psutil.AccessDenied):
        return None
    return counters.read_bytes, counters.write_bytes


class GuestNetworks:
    """What guests tell of their networks: asked over each machine's SSH master, all of them at the same time.

    A guest that is slow to answer holds nothing up: its counters are those that it told last, or None.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, tuple[int, int]] = {}
        self._questions: dict[str, threading.Thread] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave no question behind."""
        self._await(_ANSWER_S)

    def ask(self, machines: Iterable[ListedMachine]) -> dict[str, tuple[int, int]]:
        """The counters by machine, as far as they are known within a second."""
        for listed in machines:
            name = listed.record.name
            if listed.state.state in (State.RUNNING, State.DEGRADED) and name not in self._questions:
                self._questions[name] = threading.Thread(target=self._ask, args=(name,), daemon=True)
                self._questions[name].start()
        self._await(_PATIENCE_S)
        return dict(self._known)

    def _await(self, seconds: float) -> None:
        deadline = Deadline.after(seconds, "guests to tell of their networks")
        for name, question in list(self._questions.items()):
            question.join(deadline.left_s)
            if not question.is_alive():
                del self._questions[name]

    def _ask(self, name: str) -> None:
        paths = self._context.roots.machine(name)
        try:
            argv = command_argv(find_target(name, ROOT, self._context), paths.ssh_control, _COUNTERS)
            self._known[name] = parse_counters(runner.run(argv, timeout_s=_ANSWER_S).stdout)
        except (MachineError, ValueError):
            self._known.pop(name, None)


def parse_counters(answer: str) -> tuple[int, int]:
    """The bytes that all network cards have received and sent, from a list of numbers for each (pure).

    Raises:
        ValueError: the guest has told something else.
    """
    received, _, sent = answer.partition("\n\n")
    return sum(map(int, received.split())), sum(map(int, sent.split()))
