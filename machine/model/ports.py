"""Describe forwards from ports and sockets of the host into a guest; parse and write their notation (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from machine.errors import reason_of

MAX_PORT = 65535
DEFAULT_MAX_PUBLISHED_PORTS = 1024
EVERY = "*"
"""The text that stands for every address of the host, in what users type and in what they are shown."""

_LOOPBACK = "127.0.0.1"
ANY_IPV4 = "0.0.0.0"  # noqa: S104  (the user asks for it)
_ANY_IPV6 = "::"
_BROADCAST = "255.255.255.255"


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


class Driver(StrEnum):
    """The program that listens on the host and forwards into the guest."""

    SLIRP = "slirp"
    """QEMU's own network stack, which forwards TCP and UDP, on IPv4 only."""

    SSH = "ssh"
    """The SSH master of the supervisor, which forwards TCP. Instead of a port, either side can be a Unix socket."""


class Origin(StrEnum):
    """Who asked for a forward."""

    PUBLISHED = "published"
    """Podman in the guest asked for the forward, to publish a port of a container."""

    USER = "user"


class Claim(StrEnum):
    """What Podman's list of containers says about a port that a container publishes."""

    ACTIVE = "active"
    """The container runs or is paused."""

    DORMANT = "dormant"
    """The container has ended, or has not been started yet."""


@dataclass(frozen=True, kw_only=True, order=True)
class SocketPath:
    """A Unix socket of the host or of the guest; `path` is absolute and contains no colon."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, kw_only=True, order=True)
class Endpoint:
    """A port on which the host listens. An empty `address` stands for every address, IPv4 and IPv6."""

    protocol: Protocol
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.host_port(EVERY)}/{self.protocol}"

    def host_port(self, every: str) -> str:
        """Return `ADDRESS:PORT`, with brackets around an IPv6 address. An empty address is written as `every`."""
        address = f"[{self.address}]" if self.is_ipv6 else self.address or every
        return f"{address}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address

    @property
    def includes_loopback(self) -> bool:
        """Whether the port can be reached at the host's own loopback address, IPv4's or IPv6's."""
        return self.address in ("", ANY_IPV4, _ANY_IPV6, _LOOPBACK, "::1")

    def sockets(self, *, ipv6: bool = True) -> tuple[Endpoint, ...]:
        """Return the endpoints of the sockets that the host listens on.

        If `address` stands for every address, there is a socket for IPv4. If the protocol is TCP and the host has IPv6,
        there is also a socket for IPv6. `ipv6` says whether the host has IPv6.
        """
        if self.address:
            return (self,)
        addresses = [ANY_IPV4, *([_ANY_IPV6] if ipv6 and self.protocol is Protocol.TCP else [])]
        return tuple(replace(self, address=address) for address in addresses)


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A forward from an endpoint of the host to a port or socket of the guest. Sockets can only be used with TCP."""

    endpoint: Endpoint | SocketPath
    guest: int | SocketPath
    origin: Origin

    def collides_with(self, other: Forward) -> bool:
        """Return whether both forwards would listen on the same port or socket."""
        ours, theirs = self.endpoint, other.endpoint
        if isinstance(ours, Endpoint) and isinstance(theirs, Endpoint):
            return not set(ours.sockets()).isdisjoint(theirs.sockets())
        return ours == theirs


class PortState(StrEnum):
    """Whether the host listens on the endpoint of a forward, and if not, why."""

    OPEN = "open"

    WAITING = "waiting"
    """The host does not listen yet, because the driver is still starting."""

    FAILED = "failed"
    """The host cannot listen on the endpoint. The supervisor keeps trying."""

    STOPPED = "stopped"
    """The host does not listen, because the machine is stopped."""

    UNKNOWN = "unknown"
    """It is unknown whether the host listens, because no supervisor answers."""


@dataclass(frozen=True, kw_only=True)
class PortStatus:
    """The state of a forward. If the forward is neither open nor stopped, `reason` tells people why."""

    state: PortState
    reason: str | None = None


def parse_address(text: str) -> str:
    """Return an IP address in its canonical form; an empty text stands for every address.

    Raises:
        ValueError: `text` is not an address on which the host can listen.
    """
    if not text:
        return ""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if "%" in text:
        raise ValueError(f'"{text}" has a zone (the part after %), which is not supported')
    import ipaddress  # not for `machine ls`

    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is not an IP address') from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_multicast or str(address) == _BROADCAST:
        raise ValueError(f'"{text}" is a multicast or broadcast address, on which nothing can listen')
    return str(address)


def parse_port(text: str) -> int:
    """Read a port number.

    Raises:
        ValueError: `text` is not a number from 1 to 65535.
    """
    if not text.isascii() or not text.isdigit() or len(text) > len(str(MAX_PORT)) or not 1 <= int(text) <= MAX_PORT:
        raise ValueError(f'"{text}" is not a port number (1-{MAX_PORT})')
    return int(text)


def parse_protocol(value: str) -> Protocol:
    """Read the name of a protocol.

    Raises:
        ValueError: `value` is not a protocol that can be forwarded.
    """
    try:
        return Protocol(value)
    except ValueError as error:
        raise ValueError(f'protocol "{value}" is not supported; choose {" or ".join(Protocol)}') from error


def parse_endpoint(text: str, protocol: Protocol) -> Endpoint:
    """Read `[ADDRESS]:PORT` as Go's net.JoinHostPort writes it, with brackets around IPv6 addresses.

    Raises:
        ValueError: `text` has another form, or its address or port is not valid.
    """
    address, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f'"{text}" is not ADDRESS:PORT')
    return Endpoint(protocol=protocol, address=parse_address(address), port=parse_port(port))


def parse_forward(text: str) -> Forward:
    """Read a forward as users write it, which is `[HOST_IP:]HOST_PORT:GUEST_PORT[/PROTOCOL]`.

    Without HOST_IP, only this host can connect. The HOST_IP `*` stands for every address. On either side, the absolute
    path of a Unix socket can be written instead of a port.

    Raises:
        ValueError: `text` has another form, or a part of it is not valid.
    """
    host, colon, end = text.rpartition(":")
    if not colon:
        raise ValueError(f'"{text}" is not HOST:GUEST')
    port, _, kind = (end, "", "") if end.startswith("/") else end.partition("/")
    protocol = parse_protocol(kind.lower() or Protocol.TCP)
    endpoint = _parse_host(host, protocol)
    guest = _parse_socket(port) if port.startswith("/") else parse_port(port)
    if protocol is Protocol.UDP and isinstance(guest, SocketPath):
        raise ValueError("UDP cannot be forwarded to a Unix socket")
    if protocol is Protocol.UDP and _is_ipv6(endpoint):
        raise ValueError("UDP is forwarded on IPv4 only; give an IPv4 address")
    return Forward(endpoint=endpoint, guest=guest, origin=Origin.USER)


def parse_host(text: str) -> tuple[Endpoint | SocketPath, int | SocketPath | None]:
    """Read a forward as users write it, either whole or only the host's side.

    Return a pair: the host's side and the guest's side. If `text` is only the host's side, the guest's side is None.

    Raises:
        ValueError: `text` is neither a forward nor the host's side of a forward.
    """
    try:
        forward = parse_forward(text)
    except ValueError:
        host, _, kind = (text, "", "") if text.startswith("/") else text.partition("/")
        return _parse_host(host, parse_protocol(kind.lower() or Protocol.TCP)), None
    return forward.endpoint, forward.guest


def _parse_host(text: str, protocol: Protocol) -> Endpoint | SocketPath:
    if text.startswith("/"):
        if protocol is not Protocol.TCP:
            raise ValueError(f"{protocol.upper()} cannot be forwarded from a Unix socket")
        return _parse_socket(text)
    address, colon, port = text.rpartition(":")
    if not colon:
        address = _LOOPBACK
    elif not address:
        raise ValueError(f'"{text}" has no address; write {port} for this host only, or *:{port} for every address')
    address = "" if address == EVERY else parse_address(address)
    return Endpoint(protocol=protocol, address=address, port=parse_port(port))


def _parse_socket(text: str) -> SocketPath:
    if ":" in text:
        raise ValueError(f'"{text}" contains a colon, which is not possible in the path of a forwarded socket')
    if "${" in text:
        raise ValueError(f'"{text}" contains ${{, which OpenSSH takes for a variable')
    return SocketPath(path=text)


def _is_ipv6(endpoint: Endpoint | SocketPath) -> bool:
    return isinstance(endpoint, Endpoint) and endpoint.is_ipv6


def forward_text(forward: Forward) -> str:
    """Return a forward in the notation that `parse_forward` reads."""
    endpoint = forward.endpoint
    if isinstance(endpoint, SocketPath):
        return f"{endpoint}:{forward.guest}"
    kind = "" if isinstance(forward.guest, SocketPath) else f"/{endpoint.protocol}"
    return f"{endpoint.host_port(EVERY)}:{forward.guest}{kind}"


def dump_forwards(forwards: Iterable[Forward]) -> list[list[str]]:
    """Return forwards of any origin as values for JSON."""
    return [[forward_text(forward), forward.origin.value] for forward in forwards]


def load_forward(text: str, origin: str) -> Forward:
    """Read a forward from its notation and the name of its origin.

    Raises:
        ValueError: `text` is not a forward, or `origin` is not the name of an origin.
    """
    return replace(parse_forward(text), origin=Origin(origin))


def load_forwards(document: object) -> list[Forward]:
    """Read forwards from the values that `dump_forwards` returned.

    Raises:
        ValueError: `document` is not such a list of forwards.
    """
    try:
        return [load_forward(text, origin) for text, origin in document]  # type: ignore[attr-defined]
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not a list of forwards: {reason_of(error)}") from error
