"""The table of a machine's forwards, and which driver listens for each of them (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from machine.errors import reason_of
from machine.model.ports import Driver, Endpoint, Forward, Origin, Protocol, SocketPath, dump_forwards, load_forwards


@dataclass(frozen=True, kw_only=True)
class Binding:
    """One socket on which the host listens, and the driver that listens there."""

    driver: Driver
    endpoint: Endpoint | SocketPath
    guest: int | SocketPath


def bindings(forward: Forward, tcp_driver: Driver, *, ipv6: bool, slirp: bool = True) -> tuple[Binding, ...]:
    """Return the sockets on which the host has to listen for a forward, each with its driver.

    If both drivers can forward the port, `tcp_driver` does. QEMU listens on IPv4 only, and SSH forwards TCP only.
    `ipv6` says whether the host has IPv6, and `slirp` whether the machine has QEMU's network.

    Raises:
        ValueError: no driver can open the forward.
    """
    endpoint = forward.endpoint
    if isinstance(endpoint, SocketPath):
        return (Binding(driver=Driver.SSH, endpoint=endpoint, guest=forward.guest),)
    if endpoint.protocol is Protocol.UDP:
        if not slirp:
            raise ValueError(f"cannot publish {endpoint}: SSH does not carry UDP")
        if endpoint.is_ipv6:
            raise ValueError(f"cannot publish {endpoint}: UDP is forwarded on IPv4 only; give an IPv4 address")
        return tuple(
            Binding(driver=Driver.SLIRP, endpoint=socket, guest=forward.guest) for socket in endpoint.sockets()
        )
    # The user's own forwards use SSH, which also reaches programs that listen on the guest's loopback address only.
    by_ssh = forward.origin is Origin.USER
    return tuple(
        Binding(driver=Driver.SSH if by_ssh or socket.is_ipv6 else tcp_driver, endpoint=socket, guest=forward.guest)
        for socket in endpoint.sockets(ipv6=ipv6)
    )


class Table:
    """The forwards of one machine, by their endpoints.

    `tcp_driver`, `ipv6` and `slirp` are explained at the function `bindings`.
    """

    def __init__(self, tcp_driver: Driver, *, ipv6: bool, slirp: bool = True) -> None:
        self.tcp_driver = tcp_driver
        self._ipv6 = ipv6
        self._slirp = slirp
        self._forwards: dict[Endpoint | SocketPath, Forward] = {}

    def __iter__(self) -> Iterator[Forward]:
        """Yield the forwards, first those from ports, then those from sockets of the host."""
        return iter(
            sorted(self._forwards.values(), key=lambda one: (isinstance(one.endpoint, SocketPath), one.endpoint))
        )

    def get(self, endpoint: Endpoint | SocketPath) -> Forward | None:
        return self._forwards.get(endpoint)

    def add(self, forward: Forward) -> None:
        self._forwards[forward.endpoint] = forward

    def remove(self, endpoint: Endpoint | SocketPath) -> Forward | None:
        return self._forwards.pop(endpoint, None)

    def of(self, origin: Origin) -> list[Forward]:
        return [forward for forward in self if forward.origin is origin]

    def bindings(self, forward: Forward) -> tuple[Binding, ...]:
        """Return the sockets on which the host has to listen for a forward, each with its driver.

        Raises:
            ValueError: no driver can open the forward.
        """
        return bindings(forward, self.tcp_driver, ipv6=self._ipv6, slirp=self._slirp)

    def all_bindings(self) -> list[Binding]:
        """Return the sockets on which the host has to listen for all forwards, each with its driver."""
        return [binding for forward in self for binding in self.bindings(forward)]

    def rival(self, forward: Forward) -> Forward | None:
        """Return another forward that listens on the same port or socket, or None if there is none."""
        return next((other for other in self if other != forward and other.collides_with(forward)), None)

    def dump(self) -> str:
        """Return the table as JSON, for a supervisor that takes over the machine."""
        return json.dumps({"tcp_driver": self.tcp_driver, "forwards": dump_forwards(self)})

    @classmethod
    def load(cls, text: str, *, ipv6: bool) -> Table:
        """Read a table from the JSON that `dump` has returned.

        Raises:
            ValueError: the text is malformed.
        """
        try:
            document = json.loads(text)
            table = cls(Driver(document["tcp_driver"]), ipv6=ipv6)
            for forward in load_forwards(document["forwards"]):
                table.add(forward)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a table of forwards: {reason_of(error)}") from error
        return table
