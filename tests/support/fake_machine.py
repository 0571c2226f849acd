"""A machine without a guest: a real supervisor, with QEMU, guest and ssh simulated by the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from machine import lock
from machine.control import Command, encode
from machine.errors import MachineError
from machine.folders.transports import MountedFolder
from machine.model.hardware import Hardware
from machine.model.host import Accelerator
from machine.model.ports import Driver
from machine.model.record import MachineRecord
from machine.model.state import MachineState, State
from machine.ports.limits import DEFAULT_LIMITS
from machine.qemu.plan import LaunchPlan, folder_id
from machine.store import records
from machine.store.paths import MachinePaths
from machine.supervisor.assembly import assemble
from machine.supervisor.assignment import Assignment
from machine.supervisor.intervals import Intervals
from machine.supervisor.loop import Supervisor
from machine.supervisor.progress import ProgressBroadcaster
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.qmp_server import QmpServer, serving_qmp

WAIT_S = 30
"""Long enough for a busy host."""

INTERVALS = Intervals(heartbeat_s=0.05, evidence_s=0.01, evidence_patience_s=0, lock_s=0.01, silent_s=WAIT_S)

Line = dict[str, Any]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


class FakeQemu:
    """A process in place of QEMU that the test can end; `adopted_lock` is that of a QEMU started earlier."""

    def __init__(self, directory: Path, binary: str) -> None:
        fifo = directory / "end"
        os.mkfifo(fifo)
        self._fifo = os.open(fifo, os.O_RDWR)
        script = f"read status text <{shlex.quote(os.fspath(fifo))}; echo $text >&2; exit $status"
        self.argv = (binary, "-c", script)
        self.status = "running"
        """The answer to QMP's query-status."""

        self.powers_down = True
        """Whether the guest obeys the power button."""

        self.migration: dict[str, object] = {}
        """The answer to QMP's query-migrate."""

        self.folders = 0
        """How many folders have a device."""

        self.adopted_lock: int | None = None

    def end(self, status: int = 0, text: str = "") -> None:
        os.write(self._fifo, f"{status} {text}\n".encode())
        if self.adopted_lock is not None:
            os.close(self.adopted_lock)
            self.adopted_lock = None

    def answer(self, command: str) -> object:
        """Execute a QMP command and return its result."""
        match command:
            case "query-status":
                return {"status": self.status, "running": self.status == "running"}
            case "query-version":
                return {"qemu": {"major": 10, "minor": 0, "micro": 0}}
            case "query-migrate":
                return self.migration
            case "qom-list":
                return [{"name": folder_id(number), "type": "a device"} for number in range(self.folders)]
            case "quit":
                self.end()
            case "system_powerdown" if self.powers_down:
                self.end()
            case _:
                pass
        return {}

    def close(self) -> None:
        os.close(self._fifo)


class FakeMachine:
    """A running supervisor, its progress messages, and methods that act as its guest and its clients."""

    def __init__(
        self, paths: MachinePaths, supervisor: Supervisor, qemu: FakeQemu, qmp: QmpServer, progress: list[Line]
    ) -> None:
        self.paths = paths
        self.supervisor = supervisor
        self.qemu = qemu
        self.qmp = qmp
        self.progress = progress
        """The lines sent to the command that waits for the start."""

        self._guests: list[asyncio.StreamWriter] = []
        """The guest's ends of the ready port, one per session."""

        self._ended: asyncio.Task[MachineError | None] | None = None

    @property
    def steps(self) -> list[str]:
        return [line["step"] for line in self.progress if "step" in line]

    @property
    def state(self) -> MachineState:
        return self.supervisor.life.current.state

    @property
    def record(self) -> MachineRecord:
        """The record on disk."""
        return records.load_file(self.paths.record)

    async def reach(self, state: State) -> None:
        await until(lambda: self.state.state is state)

    def take_guest(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guests.append(writer)

    async def say(self, line: str) -> None:
        """Write to the ready port, as the guest does."""
        await until(lambda: self._guests)
        self._guests[-1].write(f"{line}\n".encode())
        await self._guests[-1].drain()

    async def boot(self) -> None:
        """Report a boot of the guest and wait until the machine is running."""
        await self.say("ready boot-1")
        await self.reach(State.RUNNING)

    async def ask(self, command: Command, value: str = "") -> list[Line]:
        """Send a command over the control socket; returns all lines of the answer."""
        reader, writer = await asyncio.open_unix_connection(self.paths.control_socket)
        writer.write(encode({"command": command, "value": value}))
        try:
            async with asyncio.timeout(WAIT_S):
                return [json.loads(line) async for line in reader]
        finally:
            writer.close()

    def start(self) -> None:
        self._ended = asyncio.create_task(self.supervisor.run())

    async def end(self) -> MachineError | None:
        """Wait until the supervisor ends, and return its result."""
        assert self._ended is not None
        async with asyncio.timeout(WAIT_S):
            return await self._ended

    async def close(self) -> None:
        if self._ended and not self._ended.done():
            self._ended.cancel()
            await asyncio.wait([self._ended])
        self.qemu.end()
        await self.supervisor.computer.wait()
        self.qemu.close()
        for writer in self._guests:
            writer.close()


@contextlib.asynccontextmanager
async def fake_machine(
    directory: Path,
    *,
    adopts: bool = False,
    has_monitor: bool = True,
    binary: str = "sh",
    intervals: Intervals = INTERVALS,
    base: Path | None = None,
    hardware: Hardware | None = None,
    hypervisor: str | None = None,
    patience: int = 1,
    folders: Sequence[MountedFolder] = (),
    **fields: Any,
) -> AsyncIterator[FakeMachine]:
    """Run a supervisor that starts or `adopts` the machine `box`; `fields` go to make_record, `binary` plays QEMU.

    Without `has_monitor`, the socket of QEMU's monitor has been removed. `base` is the base image of the disk,
    `hypervisor` the versions that a failed start names if HVF accelerates the guest.
    """
    progress: list[Line] = []
    starting = ProgressBroadcaster()
    starting.add(lambda line: progress.append(json.loads(line)))
    async with greeting_server() as port:
        record = make_record(ssh_port=port, **fields)
        paths = save_machine(make_roots(directory), record)
        paths.runtime.mkdir(parents=True)
        qemu = FakeQemu(directory, binary)
        qemu.folders = len(folders)
        if adopts:
            qemu.adopted_lock = lock.acquire(paths.lock)
        assignment = Assignment(
            record=record,
            paths=paths,
            plan=None if adopts else LaunchPlan(argv=qemu.argv, accelerator=Accelerator.KVM),
            lock=None,
            tcp_driver=Driver.SLIRP,
            publish_limits=DEFAULT_LIMITS,
            patience=patience,
            base=base,
            hardware=hardware,
            hypervisor=hypervisor,
            folders=folders,
        )
        async with serving_qmp(paths.qmp_socket, qemu.answer) as qmp:
            machine = FakeMachine(paths, assemble(assignment, starting, intervals), qemu, qmp, progress)
            if not has_monitor:
                paths.qmp_socket.unlink()
            async with await asyncio.start_unix_server(machine.take_guest, paths.ready_socket):
                machine.start()
                try:
                    yield machine
                finally:
                    await machine.close()


@contextlib.asynccontextmanager
async def greeting_server(is_up: asyncio.Event | None = None) -> AsyncIterator[int]:
    """Run an SSH server that only sends its greeting, at once or when `is_up` is set; yields its port on loopback."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_up:
            await is_up.wait()
        writer.write(b"SSH-2.0-guest\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
