"""Forwards whose carriers come and go while they are opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from machine.errors import MachineError
from machine.model.ports import Driver, parse_forward
from machine.ports.drivers import Drivers
from machine.ports.server import OPEN, PortServer
from machine.ports.table import Binding
from machine.store.ssh_ports import choose


class FakeDrivers(Drivers):
    """Calls `opening` for each binding that is opened."""

    def __init__(self, opening: Callable[[Binding], None]) -> None:
        self.opening = opening

    async def open(self, binding: Binding) -> None:
        self.opening(binding)

    async def close(self, binding: Binding) -> None:
        pass


def port_server(drivers: FakeDrivers, directory: Path) -> PortServer:
    return PortServer(drivers, directory / "ports.json", Driver.SLIRP, on_failure=print)


def test_carrier_that_is_lost_while_it_opens_a_forward_has_not_opened_it(tmp_path: Path) -> None:
    drivers = FakeDrivers(lambda binding: ports.carrier_is_gone(binding.driver))
    ports = port_server(drivers, tmp_path)

    async def work() -> list[str]:
        await ports.carrier_is_up(Driver.SSH)
        await ports.add(parse_forward(f"{choose(set())}:80"))
        states = [state for _, state in ports.all()]
        drivers.opening = print
        await ports.carrier_is_up(Driver.SSH)
        return [*states, *(state for _, state in ports.all())]

    assert asyncio.run(work()) == ["waits for the guest's SSH server", OPEN]


def test_master_that_comes_leaves_qemus_forwards_alone(tmp_path: Path) -> None:
    """It may go again at any moment, and whoever speaks to QEMU for it would be cut off."""
    opened: list[Driver] = []

    def refuse(binding: Binding) -> None:
        opened.append(binding.driver)
        raise MachineError("not now")

    ports = port_server(FakeDrivers(refuse), tmp_path)
    ports.preload([parse_forward(f"{choose(set())}:53/udp"), parse_forward(f"{choose(set())}:80")])

    async def work() -> None:
        for driver in (Driver.SLIRP, Driver.SSH):
            await ports.carrier_is_up(driver)

    asyncio.run(work())
    assert opened == [Driver.SLIRP, Driver.SSH]
