"""The ports that a remote host's containers publish, on this host."""

from __future__ import annotations

import pytest

from machine.model.ports import Claim, Driver, Endpoint, Forward, Origin, Protocol
from machine.ports.table import Table
from machine.ports.watched import wanted_ports


def endpoint(port: int, address: str = "127.0.0.1", protocol: Protocol = Protocol.TCP) -> Endpoint:
    return Endpoint(protocol=protocol, address=address, port=port)


def test_tcp_ports_of_running_containers_are_opened() -> None:
    wanted = wanted_ports(
        {
            endpoint(80): Claim.ACTIVE,
            endpoint(81, ""): Claim.ACTIVE,
            endpoint(82, "::1"): Claim.ACTIVE,
            endpoint(83): Claim.DORMANT,
            endpoint(84, "192.0.2.1"): Claim.ACTIVE,
            endpoint(85, protocol=Protocol.UDP): Claim.ACTIVE,
        }
    )
    assert wanted.open == (endpoint(80), endpoint(81, ""), endpoint(82, "::1"))
    assert wanted.not_carried == {
        endpoint(84, "192.0.2.1"): "the container listens on another address of the host only",
        endpoint(85, protocol=Protocol.UDP): "SSH does not carry UDP",
    }


def test_machine_without_slirp_carries_no_udp() -> None:
    table = Table(Driver.SSH, ipv6=False, slirp=False)
    udp = Forward(endpoint=endpoint(53, protocol=Protocol.UDP), guest=53, origin=Origin.USER)
    with pytest.raises(ValueError, match="SSH does not carry UDP"):
        table.bindings(udp)
