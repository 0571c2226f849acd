"""Clients that come while a machine is being suspended: no moment at which nobody listens, with a real QEMU and ssh."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from machine import lock
from machine.model.ports import Driver, Forward, Origin, SocketPath
from machine.ports.drivers import Drivers
from machine.ports.forwarding import Forwarding
from machine.ports.listeners import NOBODY
from machine.sockets import listener_pid, new_path
from machine.ssh.command import control_argv
from machine.store.ssh_ports import choose
from machine.supervisor.doors import ssh_binding
from machine.supervisor.kept_doors import KeptDoors
from machine.supervisor.master import Master
from tests.support.hammer import Address, connect, hammering, is_hung_up_on
from tests.support.port_drivers import loopback, no_monitor, qemu_drivers
from tests.support.sshd import Sshd
from tests.support.waiting import wait_until
from tests.support.world import World

KEEPS_SOCKETS = "no other system lets a process have the sockets of another"
CLIENTS = 5


def make_forwarding(drivers: Drivers, kept: KeptDoors, directory: Path, ssh_port: int) -> Forwarding:
    return Forwarding(
        drivers,
        directory / "ports.json",
        Driver.SLIRP,
        on_failure=print,
        predecessor=kept,
        standing=[ssh_binding(ssh_port)],
    )


@pytest.mark.linux(KEEPS_SOCKETS)
def test_clients_wait_where_qemu_has_listened_and_it_listens_again_if_it_runs_on(short_path: Path) -> None:
    ssh_port, port, udp = choose(set()), choose(set()), choose(set())
    endpoints = [loopback(ssh_port), loopback(port)]
    addresses = [("127.0.0.1", ssh_port), ("127.0.0.1", port)]

    async def work() -> None:
        async with qemu_drivers(short_path, ssh_port) as (drivers, _):
            kept = KeptDoors(NOBODY)
            ports = make_forwarding(drivers, kept, short_path, ssh_port)
            await ports.on_driver_up(Driver.SLIRP)
            await ports.add(Forward(endpoint=loopback(port), guest=80, origin=Origin.PUBLISHED))
            await ports.add(Forward(endpoint=loopback(udp, kind="udp"), guest=53, origin=Origin.PUBLISHED))
            assert await drivers.listed() == {*endpoints, loopback(udp, kind="udp")}
            with hammering(addresses) as attempts:
                kept.keep(ports.duplicates())
                await ports.retire(kept)
                assert await drivers.listed() == {loopback(udp, kind="udp")}
                before = dict(attempts.connected)
                await asyncio.to_thread(
                    wait_until, lambda: all(attempts.connected[one] > before[one] + 10 for one in addresses)
                )
            assert attempts.refused == []
            assert sorted(map(str, kept.pass_on().values())) == sorted(map(str, endpoints))
            await ports.on_driver_up(Driver.SLIRP)
            assert await drivers.listed() == {*endpoints, loopback(udp, kind="udp")}
            assert not any(kept.holds(endpoint) for endpoint in endpoints)
            kept.close()

    asyncio.run(work())


@pytest.mark.linux(KEEPS_SOCKETS)
def test_clients_wait_where_ssh_has_listened(sshd: Sshd, short_path: Path) -> None:
    port, own, api, control = choose(set()), short_path / "own.sock", short_path / "api.sock", short_path / "ctl"
    drivers = Drivers(
        monitor=no_monitor,
        netdev="none",
        ssh=lambda verb, *ends: control_argv(sshd.target, control, verb, *ends),
        pid=lambda driver: listener_pid(control) if driver is Driver.SSH else None,
        standing={Driver.SSH: [SocketPath(path=str(new_path(api)))]},
    )
    kept = KeptDoors(NOBODY)
    ports = Forwarding(drivers, short_path / "ports.json", Driver.SLIRP, on_failure=print, predecessor=kept)
    forwards = [
        Forward(endpoint=one, guest=1, origin=Origin.USER) for one in (loopback(port), SocketPath(path=str(own)))
    ]
    ports.preload(forwards)

    async def on_up() -> None:
        await ports.on_driver_up(Driver.SSH)
        pid = listener_pid(control)
        assert pid
        with hammering([("127.0.0.1", port), own, api]) as attempts:
            kept.keep(ports.duplicates())
            await ports.retire(kept)
            os.kill(pid, signal.SIGTERM)
            await asyncio.to_thread(wait_until, lambda: listener_pid(control) is None)
            ports.on_driver_down(Driver.SSH)
            before = dict(attempts.connected)
            await asyncio.to_thread(
                wait_until, lambda: all(count > before[one] + 10 for one, count in attempts.connected.items())
            )
        assert attempts.refused == []

    asyncio.run(Master("box", sshd.target, control, {api: "/nowhere"}).run(expects_delay=False, on_up=on_up))
    assert len(kept.pass_on()) == 3
    kept.close()


BECOMES = """
import os, sys
from machine import lock
from machine.model.host import HostOS
from machine.ports.listeners import NOBODY
from machine.store import records
from machine.store.paths import find_roots
from machine.supervisor.doors import listen, places
from machine.supervisor.kept_doors import KeptDoors
from machine.supervisor.waiting import become_waiting

paths = find_roots(os.environ, HostOS.LINUX, os.getuid()).machine("box")
paths.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
held = lock.acquire(paths.lock)
kept = KeptDoors(NOBODY)
kept.listen_at_others(places(paths, (), records.load_file(paths.record).config.ssh_port, sleeps=True))
print("ready", flush=True)
sys.stdin.readline()
become_waiting("box", paths, kept)
"""


@pytest.mark.linux("the program names Linux's directories")
def test_clients_of_a_supervisor_that_becomes_the_waiting_process_wake_the_machine(suspended: World) -> None:
    api = Path(suspended.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"])
    addresses: list[Address] = [api, ("127.0.0.1", suspended.record("box")["config"]["ssh_port"])]
    with suspended.spawn(sys.executable, "-c", BECOMES, stdin="go") as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        early = [connect(address) for address in addresses for _ in range(CLIENTS)]
        process.stdin.write("go\n")
        process.stdin.flush()
        late = [connect(address) for address in addresses for _ in range(CLIENTS)]
        assert all(is_hung_up_on(client) for client in (*early, *late))
        wait_until(lambda: suspended.state("box")[1])
        assert "a client could not wake it: unable to resume" in suspended.state("box")[1]
        assert lock.holder_pid(suspended.machines / "box" / "waiting.lock") == process.pid
        suspended.must("kill", "box")


@pytest.mark.linux("the program names Linux's directories")
def test_start_takes_over_from_a_process_that_has_just_begun_to_wait(suspended: World) -> None:
    with suspended.spawn(sys.executable, "-c", BECOMES, stdin="go") as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        connect(Path(suspended.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"])).close()
        process.stdin.write("go\n")
        process.stdin.flush()
        wait_until(lambda: not lock.is_held(suspended.machines / "box" / "lock"))
        log = suspended.machines / "box" / "supervisor.log"
        failed = suspended.machine("start", "box", MACHINE_ACCEL="tcg")
        assert "unable to resume" in failed.stderr
        assert "is ended" not in log.read_text()
        assert "a client has come" not in log.read_text()  # it has gone again
        assert lock.holder_pid(suspended.machines / "box" / "waiting.lock") == process.pid
        suspended.must("kill", "box")
