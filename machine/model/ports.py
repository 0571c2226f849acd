"""Ports of the host that lead into a guest."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

MAX_PORT = 65535
_LOOPBACK = "127.0.0.1"


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


class Origin(StrEnum):
    """Who asked for a forward."""

    PUBLISHED = "published"
    """Podman in the guest, for a container."""

    USER = "user"


@dataclass(frozen=True, kw_only=True, order=True)
class Endpoint:
    """Where the host listens; an empty `address` is every one that it has."""

    protocol: Protocol
    address: str
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address or "*"
        return f"{address}:{self.port}/{self.protocol}"

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address


@dataclass(frozen=True, kw_only=True)
class Forward:
    """From an endpoint of the host to a port of the guest."""

    endpoint: Endpoint
    guest_port: int
    origin: Origin


def parse_address(text: str) -> str:
    """An IP address in its usual form; empty and the unspecified IPv4 address mean every address.

    Raises:
        ValueError: it is none.
    """
    text = text.removeprefix("[").removesuffix("]")
    if not text:
        return ""
    address = ipaddress.ip_address(text)
    return "" if address == ipaddress.IPv4Address(0) else str(address)


def parse_port(text: str) -> int:
    """A port from 1 to 65535.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PORT:
        raise ValueError(f'"{text}" is no port from 1 to {MAX_PORT}')
    return int(text)


def parse_endpoint(text: str, protocol: Protocol) -> Endpoint:
    """`[ADDRESS]:PORT` as Go's net.JoinHostPort writes it, IPv6 addresses in brackets.

    Raises:
        ValueError: it is none.
    """
    address, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f'"{text}" is not ADDRESS:PORT')
    return Endpoint(protocol=protocol, address=parse_address(address), port=parse_port(port))


def parse_forward(text: str) -> Forward:
    """A user's `[HOST_IP:]HOST_PORT:GUEST_PORT[/PROTOCOL]`; without an address, this host alone.

    Raises:
        ValueError: it is none.
    """
    ports, _, kind = text.partition("/")
    try:
        protocol = Protocol(kind or Protocol.TCP)
    except ValueError as error:
        raise ValueError(f'protocol "{kind}" cannot be forwarded: {" and ".join(Protocol)} can') from error
    host, colon, guest = ports.rpartition(":")
    if not colon:
        raise ValueError(f'"{text}" is not [HOST_IP:]HOST_PORT:GUEST_PORT[/udp]')
    endpoint = parse_endpoint(host if ":" in host else f"{_LOOPBACK}:{host}", protocol)
    return Forward(endpoint=endpoint, guest_port=parse_port(guest), origin=Origin.USER)


def forward_text(forward: Forward) -> str:
    """What `parse_forward` reads."""
    endpoint = forward.endpoint
    address = f"[{endpoint.address}]" if endpoint.is_ipv6 else endpoint.address or "0.0.0.0"  # noqa: S104
    return f"{address}:{endpoint.port}:{forward.guest_port}/{endpoint.protocol}"
