"""Forwards over a real SSH master to a real sshd, which stands for a guest's: what needs no guest to be seen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.ports import Driver, Origin, PortState, PortStatus, parse_forward
from machine.ports.drivers import Drivers
from machine.ports.forwarding import Forwarding
from machine.sockets import listener_pid
from machine.ssh.command import control_argv
from machine.store.ssh_ports import choose
from machine.supervisor.master import Master
from tests.support.sshd import Sshd
from tests.support.waiting import WAIT_S


@pytest.fixture
def greeter() -> Iterator[int]:
    """A port of the guest's loopback that says hello."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"hello")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join(WAIT_S)


@dataclass(frozen=True, kw_only=True)
class Found:
    ports: Forwarding
    control: Path
    failures: list[str | None]

    def status(self, text: str) -> PortStatus:
        endpoint = parse_forward(text).endpoint
        return next(status for forward, status in self.ports.statuses() if forward.endpoint == endpoint)

    def is_open(self, text: str) -> bool:
        return self.status(text).state is PortState.OPEN

    def failure(self, text: str) -> str:
        """Why the forward could not be opened; empty where it did not fail."""
        status = self.status(text)
        return status.reason or "" if status.state is PortState.FAILED else ""

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def forwarding(sshd: Sshd, directory: Path) -> AsyncIterator[Found]:
    """Forwards whose master is started again whenever it has ended."""
    control = directory / "ctl"
    failures: list[str | None] = []
    drivers = Drivers(
        monitor=no_monitor,
        netdev="none",
        ssh=lambda verb, *ends: control_argv(sshd.target, control, verb, *ends),
        pid=lambda _: listener_pid(control),
        standing={},
    )
    ports = Forwarding(drivers, directory / "ports.json", Driver.SSH, on_failure=failures.append)
    master = Master("box", sshd.target, control, {})

    async def keep_master() -> None:
        while True:
            try:
                await master.run(expects_delay=False, on_up=lambda: ports.on_driver_up(Driver.SSH))
            finally:
                ports.on_driver_down(Driver.SSH)

    tasks = [asyncio.ensure_future(work) for work in (keep_master(), ports.retry_failed())]
    found = Found(ports=ports, control=control, failures=failures)
    try:
        yield found
    finally:
        pid = listener_pid(control)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await found.until(lambda: not Path(f"/proc/{pid}").exists())


async def no_monitor(line: str) -> str:
    raise AssertionError(line)


def greeting(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), WAIT_S) as connection:
            return connection.recv(100)
    except OSError:
        return b""


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(3 * WAIT_S):
            await work()

    asyncio.run(bounded())


def test_forwards_come_back_with_the_master(sshd: Sshd, greeter: int, short_path: Path) -> None:
    every, six, path = choose(set()), choose(set()), short_path / "my %h.sock"
    texts = [f"*:{every}:{greeter}", f"[::1]:{six}:{greeter}", f"{path}:{greeter}"]

    async def work() -> None:
        async with forwarding(sshd, short_path) as found:
            # Before there is anything to carry it: it waits.
            await found.ports.add(parse_forward(texts[0]))
            assert found.status(texts[0]) == PortStatus(state=PortState.WAITING, reason="waits for the SSH server")
            await found.until(lambda: found.is_open(texts[0]))
            for text in texts[1:]:
                await found.ports.add(replace(parse_forward(text), origin=Origin.USER))
            for _ in range(2):
                for address, port in (("127.0.0.1", every), ("::1", every), ("::1", six)):
                    assert await asyncio.to_thread(greeting, address, port) == b"hello"
                assert not await asyncio.to_thread(greeting, "127.0.0.1", six)
                assert path.stat().st_mode & 0o077 == 0
                pid = listener_pid(found.control)
                assert pid
                os.kill(pid, signal.SIGKILL)
                await found.until(lambda: not all(map(found.is_open, texts)))
                await found.until(lambda: all(map(found.is_open, texts)))
            path.unlink()  # as whoever tidies up does
            await found.ports.reopen_sockets()
            assert path.is_socket()
            for text in texts:
                await found.ports.remove(parse_forward(text).endpoint, Origin.USER)
            assert not path.exists()
            assert not await asyncio.to_thread(greeting, "127.0.0.1", every)

    run(work)


def test_socket_that_can_no_longer_be_looked_for_is_a_failure_like_any(
    sshd: Sshd, greeter: int, short_path: Path
) -> None:
    parent, away = short_path / "of mine", short_path / "away"
    parent.mkdir()
    text = f"{parent / 'x.sock'}:{greeter}"

    async def work() -> None:
        async with forwarding(sshd, short_path) as found:
            await found.ports.add(parse_forward(text))
            await found.until(lambda: found.is_open(text))
            parent.rename(away)
            parent.symlink_to("x" * 300)  # root may enter every directory, but not that
            await found.ports.reopen_sockets()
            assert found.failure(text).endswith("File name too long")
            parent.unlink()
            away.rename(parent)
            await found.until(lambda: found.is_open(text))

    run(work)


def test_half_of_every_address_is_not_enough(sshd: Sshd, greeter: int, short_path: Path) -> None:
    port = choose(set())
    text = f"*:{port}:{greeter}"

    async def work() -> None:
        async with forwarding(sshd, short_path) as found:
            with socket.create_server(("::1", port), family=socket.AF_INET6):
                with pytest.raises(MachineError, match=r"cannot publish \[::\]:\d+/tcp: the port is taken by "):
                    await found.ports.add(parse_forward(text))
                assert not await asyncio.to_thread(greeting, "127.0.0.1", port)
                # One that was there at the start is tried again, and says why it is not open meanwhile.
                found.ports.preload([parse_forward(text)])
                await found.until(
                    lambda: found.failure(text).startswith(f"cannot publish [::]:{port}/tcp: the port is")
                )
                assert found.failures[-1] == found.failure(text)
            await found.until(lambda: found.is_open(text))
            assert found.failures[-1:] == [None]
            assert await asyncio.to_thread(greeting, "::1", port) == b"hello"

    run(work)


def test_connection_that_has_not_outlived_a_pause_is_known_soon(sshd: Sshd, short_path: Path) -> None:
    """Long before the master, patient as it is, gives it up."""

    async def work() -> None:
        async with forwarding(sshd, short_path) as found:
            await found.until(found.control.exists)
            with sshd.sessions_stopped():
                async with asyncio.timeout(WAIT_S):
                    assert not await Master("box", sshd.target, found.control, {}).set_guest_clock(in_doubt=True)

    run(work)
