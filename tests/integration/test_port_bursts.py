"""Bursts of clients at the sockets on which a real QEMU and a real ssh listen, while neither accepts connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from machine.model.ports import Driver, SocketPath
from machine.ports.drivers import Drivers
from machine.ports.table import Binding
from machine.sockets import listener_pid, new_path
from machine.ssh.command import control_argv
from machine.store.ssh_ports import choose
from machine.supervisor.master import Master
from tests.support.port_drivers import loopback, no_monitor, qemu_drivers
from tests.support.sshd import Sshd
from tests.support.waiting import WAIT_S

BURST = 300
PORTS, CONNECTIONS = 200, 1000
CONNECT_S = 10.0
# struct tcp_info of linux/tcp.h up to tcpi_total_retrans, which is its last field then.
TCP_INFO_BYTES = 104

Address = tuple[str, int] | str


async def count_connected(pid: int, addresses: Sequence[Address]) -> int:
    """Connect a client to each address while the process `pid` is stopped; return how many are connected at once."""
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(WAIT_S):
            return sum(await asyncio.gather(*map(connects, addresses)))
    finally:
        os.kill(pid, signal.SIGCONT)


async def connects(address: Address) -> bool:
    if isinstance(address, str):
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            return bool(client.connect_ex(address) == 0)  # a Unix socket refuses the clients that may not wait
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(*address)
        # A client that the kernel has ignored tries again after a second.
        tries = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)[-4:]
        writer.close()
        return not any(tries)
    return False


@pytest.mark.linux("the clients' files are more than a Mac's process may open")
def test_burst_at_a_port_of_qemu_is_connected_at_once(short_path: Path) -> None:
    ssh_port, port = choose(set()), choose(set())

    async def work() -> tuple[int, int]:
        async with qemu_drivers(short_path, ssh_port) as (drivers, pid):
            drivers.on_driver_up(Driver.SLIRP)
            await drivers.open(Binding(driver=Driver.SLIRP, endpoint=loopback(port), guest=80))
            at_port = await count_connected(pid, [("127.0.0.1", port)] * BURST)
            return at_port, await count_connected(pid, [("127.0.0.1", ssh_port)] * BURST)

    assert asyncio.run(work()) == (BURST, BURST)


@pytest.mark.linux("the clients' files are more than a Mac's process may open")
def test_many_ports_hold_many_connections(short_path: Path) -> None:
    ports: set[int] = set()
    while len(ports) < PORTS + 1:
        ports.add(choose(ports))
    ssh_port = ports.pop()

    async def work() -> int:
        async with qemu_drivers(short_path, ssh_port) as (drivers, pid):
            for port in ports:
                await drivers.open(Binding(driver=Driver.SLIRP, endpoint=loopback(port), guest=80))
            addresses = [("127.0.0.1", port) for port in ports] * (CONNECTIONS // PORTS)
            return await count_connected(pid, addresses)

    assert asyncio.run(work()) == CONNECTIONS


@pytest.mark.linux("the clients' files are more than a Mac's process may open")
def test_burst_at_each_kind_of_forward_over_ssh_is_connected_at_once(sshd: Sshd, short_path: Path) -> None:
    four, six, own, api = choose(set()), choose(set()), short_path / "own.sock", short_path / "api.sock"
    control = short_path / "ctl"
    drivers = Drivers(
        monitor=no_monitor,
        netdev="none",
        ssh=lambda verb, *ends: control_argv(sshd.target, control, verb, *ends),
        pid=lambda _: listener_pid(control),
        standing={Driver.SSH: [SocketPath(path=str(new_path(api)))]},
    )
    endpoints = (loopback(four), loopback(six, "::1"), SocketPath(path=str(own)))
    counts: list[int] = []

    async def on_up() -> None:
        drivers.on_driver_up(Driver.SSH)
        for endpoint in endpoints:
            await drivers.open(Binding(driver=Driver.SSH, endpoint=endpoint, guest=1))
        pid = listener_pid(control)
        assert pid
        counts.extend(
            [
                await count_connected(pid, [one] * BURST)
                for one in (("127.0.0.1", four), ("::1", six), str(own), str(api))
            ]
        )
        os.kill(pid, signal.SIGTERM)

    asyncio.run(Master("box", sshd.target, control, {api: "/nowhere"}).run(expects_delay=False, on_up=on_up))
    assert counts == [BURST] * 4


def test_port_is_opened_although_its_backlog_cannot_be_changed(short_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()

    async def answer(_: str) -> str:
        return ""

    drivers = Drivers(monitor=answer, netdev="net", ssh=lambda *_: ["false"], pid=lambda _: ended.pid, standing={})
    drivers.on_driver_up(Driver.SLIRP)
    asyncio.run(drivers.open(Binding(driver=Driver.SLIRP, endpoint=loopback(1), guest=80)))
