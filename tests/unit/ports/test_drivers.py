"""What is said where QEMU or ssh does not open a forward."""

from __future__ import annotations

import asyncio

import pytest

from machine.errors import MachineError
from machine.model.ports import Driver, Endpoint, Protocol
from machine.ports.drivers import Drivers
from machine.ports.table import Binding

ENDPOINT = Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=8080)


async def refuse(line: str) -> str:
    return f"could not set up: {line}\r\n"


@pytest.mark.parametrize(
    ("driver", "ssh", "message"),
    [
        (Driver.SLIRP, [], "could not set up: hostfwd_add net0 tcp:127.0.0.1:8080-:80"),
        (Driver.SSH, ["no-such-ssh"], "no-such-ssh is not installed on this host"),
        (Driver.SSH, ["sh", "-c", "echo first >&2; echo last >&2; exit 255"], "last"),
        (Driver.SSH, ["false"], "ssh failed"),
    ],
)
def test_forward_that_is_refused(driver: Driver, ssh: list[str], message: str) -> None:
    drivers = Drivers(monitor=refuse, netdev="net0", ssh=lambda *_: ssh, pid=lambda _: None, standing={})
    with pytest.raises(MachineError) as caught:
        asyncio.run(drivers.open(Binding(driver=driver, endpoint=ENDPOINT, guest=80)))
    assert caught.value.message == f"cannot publish 127.0.0.1:8080/tcp: {message}"
