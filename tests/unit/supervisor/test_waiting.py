"""The process that waits for clients, with a program in place of `machine start` and a test in place of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from machine import control, lock
from machine.control import Command
from machine.model.ports import Endpoint, Protocol
from machine.model.state import SUSPENDED, MachineState, State
from machine.store.paths import MachinePaths
from machine.supervisor import handover as handover_module
from machine.supervisor import waiting
from machine.supervisor.handover import Handover
from tests.support.builders import make_record, make_roots, save_machine

WAIT_S = 30
CLIENTS = 50
SLOW = "import time; time.sleep(1)"
FAILS = "import sys; print('Error: no QEMU; install it', file=sys.stderr); sys.exit(125)"


@dataclass(kw_only=True)
class Asleep:
    """A suspended machine without a memory that could be loaded, and the process that waits for its clients."""

    paths: MachinePaths
    port: int
    process: asyncio.Task[None]
    starts: Path
    """A file that each start makes longer."""

    servers: list[asyncio.Server] = field(default_factory=list)

    @property
    def place(self) -> Endpoint:
        return Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=self.port)

    async def ask(self) -> MachineState | None:
        return await asyncio.to_thread(control.query_state, self.paths.waiting_socket)

    async def take_over(self) -> Handover:
        return await asyncio.to_thread(Handover.begin, self.paths)

    async def wake(self) -> None:
        """Do what a supervisor does in a start that succeeds."""
        handover = await self.take_over()
        await handover.release(self.place)
        assert not handover.holds(self.place)
        self.servers.append(await asyncio.start_server(answer, "127.0.0.1", self.port, backlog=CLIENTS))
        new = self.paths.podman_socket.with_suffix(".new")
        self.servers.append(await asyncio.start_unix_server(answer, new))
        new.replace(self.paths.podman_socket)
        await handover.finish()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what a client says, in capital letters and after its end."""
    writer.write((await reader.read()).upper())
    writer.close()


def with_machine(
    work: Callable[[Asleep], Awaitable[None]],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    start: str = SLOW,
) -> None:
    starts = directory / "starts"
    monkeypatch.setattr(waiting, "_PROGRAM", f"print(file=open({os.fspath(starts)!r}, 'a')); {start}")
    monkeypatch.setattr(waiting, "_PAUSE_S", 0.1)

    async def run() -> None:
        async with asyncio.timeout(WAIT_S), asleep(directory, starts) as machine:
            await work(machine)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def asleep(directory: Path, starts: Path) -> AsyncIterator[Asleep]:
    roots = make_roots(directory)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = save_machine(roots, make_record(ssh_port=port))
    paths.memory.touch()
    descriptor = lock.acquire(paths.waiting_lock)
    assert descriptor is not None
    process = asyncio.create_task(waiting.wait(roots, "box", descriptor, on_demand=False))
    machine = Asleep(paths=paths, port=port, process=process, starts=starts)
    while not paths.podman_socket.exists():
        await asyncio.sleep(0.01)
    try:
        yield machine
    finally:
        process.cancel()
        await asyncio.wait([process])
        for server in machine.servers:
            server.close()


async def call(machine: Asleep, *, over_tcp: bool, text: bytes = b"ping") -> bytes:
    """Return what a client is answered, which is nothing if it is hung up on."""
    reader, writer = await (
        asyncio.open_connection("127.0.0.1", machine.port)
        if over_tcp
        else asyncio.open_unix_connection(machine.paths.podman_socket)
    )
    writer.write(text)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:  # what it has said was not read
        return b""
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_clients_that_come_while_the_machine_sleeps_are_all_answered(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(machine: Asleep) -> None:
        clients = [asyncio.create_task(call(machine, over_tcp=number % 2 == 0)) for number in range(CLIENTS)]
        await until(machine.starts.exists)
        assert await machine.ask() == SUSPENDED
        await machine.wake()
        assert await asyncio.gather(*clients) == [b"PING"] * CLIENTS
        assert machine.starts.read_text() == "\n"
        assert await call(machine, over_tcp=False) == b"PING"
        assert not lock.is_held(machine.paths.waiting_lock)

    with_machine(work, short_path, monkeypatch)


def test_large_answer_of_a_client_that_reads_slowly_arrives_whole(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(machine: Asleep) -> None:
        text = b"x" * 4 * 1024**2
        client = asyncio.create_task(call(machine, over_tcp=True, text=text))
        await until(machine.starts.exists)
        await machine.wake()
        assert await client == text.upper()

    with_machine(work, short_path, monkeypatch)


def test_silent_client_wakes_the_machine_and_keeps_its_connection(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(machine: Asleep) -> None:
        reader, writer = await asyncio.open_unix_connection(machine.paths.podman_socket)
        await until(machine.starts.exists)
        await machine.wake()
        await asyncio.sleep(0.2)
        writer.write(b"at last")
        writer.write_eof()
        assert await reader.read() == b"AT LAST"
        writer.close()
        await machine.process

    with_machine(work, short_path, monkeypatch)


def test_start_that_fails_hangs_up_and_is_told(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(machine: Asleep) -> None:
        for _ in range(2):
            assert await call(machine, over_tcp=False) == b""
            await until(machine.paths.podman_socket.exists)
            assert await machine.ask() == MachineState(
                state=State.SUSPENDED, reason="a client could not wake it: no QEMU; install it"
            )
        assert machine.starts.read_text() == "\n\n"

    with_machine(work, short_path, monkeypatch, start=FAILS)


def test_start_by_somebody_else_soon_after_one_that_has_failed_keeps_its_sockets(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(machine: Asleep) -> None:
        monkeypatch.setattr(waiting, "_PAUSE_S", 1.0)
        assert await call(machine, over_tcp=False) == b""
        await machine.wake()
        await asyncio.sleep(1.5)
        assert await call(machine, over_tcp=False) == b"PING"
        assert await call(machine, over_tcp=True) == b"PING"
        await machine.process

    with_machine(work, short_path, monkeypatch, start=FAILS)


def test_supervisor_that_ends_before_the_machine_is_up_hangs_up(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(machine: Asleep) -> None:
        handover = await machine.take_over()
        client = asyncio.create_task(call(machine, over_tcp=True))
        await handover.release(machine.place)
        handover.close()
        assert await client == b""
        await until(machine.paths.podman_socket.exists)
        assert not machine.starts.exists()
        state = await machine.ask()
        assert state
        assert state.reason == "a client could not wake it: its start has failed"

    with_machine(work, short_path, monkeypatch)


def test_start_by_somebody_else_needs_no_second_one(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(machine: Asleep) -> None:
        held = lock.acquire(machine.paths.supervisor_lock)
        assert held is not None
        client = asyncio.create_task(call(machine, over_tcp=False))
        await until(machine.starts.exists)
        await asyncio.sleep(0.5)  # the start has failed, because the other has the lock
        await machine.wake()
        assert await client == b"PING"
        os.close(held)

    with_machine(work, short_path, monkeypatch, start=FAILS)


def test_process_that_does_not_answer_gives_way(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(machine: Asleep) -> None:
        monkeypatch.setattr(handover_module, "_ANSWER_S", 0.1)
        machine.paths.waiting_socket.unlink()
        ended: list[Path] = []
        monkeypatch.setattr(lock, "end_holder", lambda path, **_: ended.append(path))
        handover = await machine.take_over()
        assert not handover.is_needed
        assert ended == [machine.paths.waiting_lock]

    with_machine(work, short_path, monkeypatch)


def test_machine_that_does_not_sleep_is_not_waited_for(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(machine: Asleep) -> None:
        machine.paths.memory.unlink()
        assert await call(machine, over_tcp=False) == b""
        await machine.process

    with_machine(work, short_path, monkeypatch, start=FAILS)


def test_client_that_comes_while_a_snapshot_is_taken_wakes_the_machine_afterwards(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(machine: Asleep) -> None:
        with lock.held(machine.paths.snapshot_lock):
            client = asyncio.create_task(call(machine, over_tcp=False))
            await asyncio.sleep(0.5)
            assert not machine.starts.exists()
        await until(machine.starts.exists)
        await machine.wake()
        assert await client == b"PING"

    with_machine(work, short_path, monkeypatch)


def test_command_that_takes_a_snapshot_wakes_the_machine_for_clients(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(machine: Asleep) -> None:
        with lock.held(machine.paths.snapshot_lock):
            client = asyncio.create_task(call(machine, over_tcp=False))
            await machine.wake()
            assert await client == b"PING"
        await machine.process
        assert not machine.starts.exists()

    with_machine(work, short_path, monkeypatch)


def test_unknown_command_is_not_answered(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(machine: Asleep) -> None:
        reader, writer = await asyncio.open_unix_connection(machine.paths.waiting_socket)
        writer.write(control.encode({"command": Command.STOP, "value": ""}))
        assert await reader.read() == b""
        writer.close()
        assert await machine.ask() == SUSPENDED

    with_machine(work, short_path, monkeypatch)


def test_slow_start_by_somebody_else_is_waited_for_with_patience(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_OTHER_START_S", 0.1)
    monkeypatch.setenv("MACHINE_PATIENCE", "100")

    async def work(machine: Asleep) -> None:
        other = lock.acquire(machine.paths.supervisor_lock)
        assert other is not None
        client = asyncio.create_task(call(machine, over_tcp=True))
        await until(machine.starts.exists)
        await asyncio.sleep(1.5)
        await machine.wake()
        assert await client == b"PING"
        os.close(other)

    with_machine(work, short_path, monkeypatch, start=FAILS)
