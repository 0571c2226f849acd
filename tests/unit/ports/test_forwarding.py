"""Forwards whose drivers come and go while they are opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from machine.errors import MachineError
from machine.model.ports import Driver, Endpoint, PortState, PortStatus, parse_forward
from machine.ports.drivers import Drivers
from machine.ports.forwarding import Forwarding
from machine.ports.table import Binding
from machine.store.ssh_ports import choose


class FakeDrivers(Drivers):
    """Calls `opening` for each binding that is opened."""

    def __init__(self, opening: Callable[[Binding], None]) -> None:
        self.opening = opening

    def on_driver_up(self, driver: Driver) -> None:
        pass

    async def listed(self) -> set[Endpoint] | None:
        return None

    async def open(self, binding: Binding) -> None:
        self.opening(binding)

    async def close(self, binding: Binding) -> None:
        pass


def make_forwarding(drivers: FakeDrivers, directory: Path) -> Forwarding:
    return Forwarding(drivers, directory / "ports.json", Driver.SLIRP, on_failure=print)


def test_driver_that_is_lost_while_it_opens_a_forward_has_not_opened_it(tmp_path: Path) -> None:
    drivers = FakeDrivers(lambda binding: ports.on_driver_down(binding.driver))
    ports = make_forwarding(drivers, tmp_path)

    async def work() -> list[PortStatus]:
        await ports.on_driver_up(Driver.SSH)
        await ports.add(parse_forward(f"{choose(set())}:80"))
        statuses = [status for _, status in ports.statuses()]
        drivers.opening = print
        await ports.on_driver_up(Driver.SSH)
        return [*statuses, *(status for _, status in ports.statuses())]

    assert asyncio.run(work()) == [
        PortStatus(state=PortState.WAITING, reason="waits for the SSH server"),
        PortStatus(state=PortState.OPEN),
    ]


def test_master_that_comes_leaves_qemus_forwards_alone(tmp_path: Path) -> None:
    """It may go again at any moment, and whoever speaks to QEMU for it would be cut off."""
    opened: list[Driver] = []

    def refuse(binding: Binding) -> None:
        opened.append(binding.driver)
        raise MachineError("not now")

    ports = make_forwarding(FakeDrivers(refuse), tmp_path)
    ports.preload([parse_forward(f"{choose(set())}:53/udp"), parse_forward(f"{choose(set())}:80")])

    async def work() -> None:
        for driver in (Driver.SLIRP, Driver.SSH):
            await ports.on_driver_up(driver)

    asyncio.run(work())
    assert opened == [Driver.SLIRP, Driver.SSH]
