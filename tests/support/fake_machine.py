"""A machine without a guest: a real supervisor, whose QEMU, guest and ssh the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from machine import lock
from machine.control import Command, encode
from machine.errors import MachineError
from machine.model.host import Accelerator
from machine.model.ports import Driver
from machine.model.record import MachineRecord
from machine.model.state import MachineState, State
from machine.qemu.plan import LaunchPlan
from machine.store import records
from machine.store.paths import MachinePaths
from machine.supervisor.assembly import Assignment, Intervals, assemble
from machine.supervisor.loop import Supervisor
from machine.supervisor.progress import ProgressBroadcaster
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.qmp_server import QmpServer, serving_qmp

WAIT_S = 30
"""A busy host is no defect."""

INTERVALS = Intervals(heartbeat_s=0.05, evidence_s=0.01, evidence_patience_s=0, lock_s=0.01)

Line = dict[str, Any]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


class FakeQemu:
    """A process in QEMU's place that ends when the test wants, and the lock of one that an earlier supervisor ran."""

    def __init__(self, directory: Path, binary: str) -> None:
        fifo = directory / "end"
        os.mkfifo(fifo)
        self._fifo = os.open(fifo, os.O_RDWR)
        script = f"read status text <{shlex.quote(os.fspath(fifo))}; echo $text >&2; exit $status"
        self.argv = (binary, "-c", script)
        self.status = "running"
        """What QMP's query-status tells."""

        self.obeys = True
        """Whether the guest powers down when its button is pressed."""

        self.adopted_lock: int | None = None

    def end(self, status: int = 0, text: str = "") -> None:
        os.write(self._fifo, f"{status} {text}\n".encode())
        if self.adopted_lock is not None:
            os.close(self.adopted_lock)
            self.adopted_lock = None

    def answer(self, command: str) -> object:
        """What QMP returns for a command, and does."""
        match command:
            case "query-status":
                return {"status": self.status, "running": self.status == "running"}
            case "quit":
                self.end()
            case "system_powerdown" if self.obeys:
                self.end()
            case _:
                pass
        return {}

    def close(self) -> None:
        os.close(self._fifo)


class FakeMachine:
    """The supervisor at work, what it has told, and what the test can make happen to it."""

    def __init__(
        self, paths: MachinePaths, supervisor: Supervisor, qemu: FakeQemu, qmp: QmpServer, told: list[Line]
    ) -> None:
        self.paths = paths
        self.supervisor = supervisor
        self.qemu = qemu
        self.qmp = qmp
        self.told = told
        """The lines that whoever waits for the start has received."""

        self._guests: list[asyncio.StreamWriter] = []
        """The guest's end of the ready port, session after session."""

        self._ended: asyncio.Task[MachineError | None] | None = None

    @property
    def steps(self) -> list[str]:
        return [line["step"] for line in self.told if "step" in line]

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
        """Have the guest boot, and the machine come up."""
        await self.say("ready boot-1")
        await self.reach(State.RUNNING)

    async def ask(self, command: Command, value: str = "") -> list[Line]:
        """Send a command as other programs do; returns all of its answer's lines."""
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
        """Wait for the supervisor's end, and return what it returns."""
        assert self._ended is not None
        async with asyncio.timeout(WAIT_S):
            return await self._ended

    async def close(self) -> None:
        if self._ended and not self._ended.done():
            self._ended.cancel()
            await asyncio.wait([self._ended])
        self.qemu.end()
        await self.supervisor.qemu.wait()
        self.qemu.close()
        for writer in self._guests:
            writer.close()


@contextlib.asynccontextmanager
async def fake_machine(
    directory: Path, *, adopts: bool = False, binary: str = "sh", **fields: Any
) -> AsyncIterator[FakeMachine]:
    """A supervisor that starts the machine `box`, or adopts it; `fields` are make_record's, `binary` is QEMU's."""
    told: list[Line] = []
    starting = ProgressBroadcaster()
    starting.add(lambda line: told.append(json.loads(line)))
    async with greeting_server() as port:
        record = make_record(ssh_port=port, **fields)
        paths = save_machine(make_roots(directory), record)
        paths.runtime.mkdir(parents=True)
        qemu = FakeQemu(directory, binary)
        if adopts:
            qemu.adopted_lock = lock.acquire(paths.lock)
        assignment = Assignment(
            record=record,
            paths=paths,
            plan=None if adopts else LaunchPlan(argv=qemu.argv, accelerator=Accelerator.KVM),
            lock=None,
            tcp_driver=Driver.SLIRP,
        )
        async with serving_qmp(paths.qmp_socket, qemu.answer) as qmp:
            machine = FakeMachine(paths, assemble(assignment, starting, INTERVALS), qemu, qmp, told)
            async with await asyncio.start_unix_server(machine.take_guest, paths.ready_socket):
                machine.start()
                try:
                    yield machine
                finally:
                    await machine.close()


@contextlib.asynccontextmanager
async def greeting_server(is_up: asyncio.Event | None = None) -> AsyncIterator[int]:
    """A port of the loopback interface where an SSH server greets: at once, or when `is_up` is set."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_up:
            await is_up.wait()
        writer.write(b"SSH-2.0-guest\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
