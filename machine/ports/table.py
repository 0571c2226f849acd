"""Which forwards there are, and what carries each of them (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from machine.model.ports import Driver, Endpoint, Forward, Origin, Protocol, SocketPath, dump_forwards, load_forwards

_ANY_IPV4 = "0.0.0.0"  # noqa: S104  (it was asked for)
_ANY_IPV6 = "::"


@dataclass(frozen=True, kw_only=True)
class Binding:
    """One listening socket."""

    driver: Driver
    endpoint: Endpoint | SocketPath
    guest: int | SocketPath


def bindings(forward: Forward, tcp_driver: Driver, *, ipv6: bool) -> tuple[Binding, ...]:
    """The sockets that a forward needs; QEMU listens on IPv4 alone, so that ssh has the rest.

    A host without IPv6 (`ipv6`) has every address without it.

    Raises:
        ValueError: nothing can carry it.
    """
    endpoint = forward.endpoint
    if isinstance(endpoint, SocketPath):
        return (Binding(driver=Driver.SSH, endpoint=endpoint, guest=forward.guest),)
    if endpoint.protocol is Protocol.UDP:
        if endpoint.is_ipv6:
            raise ValueError(f"cannot publish {endpoint}: UDP is forwarded on IPv4 alone; give an IPv4 address")
        on_ipv4 = replace(endpoint, address=endpoint.address or _ANY_IPV4)
        return (Binding(driver=Driver.SLIRP, endpoint=on_ipv4, guest=forward.guest),)
    addresses = [endpoint.address] if endpoint.address else [_ANY_IPV4, *([_ANY_IPV6] if ipv6 else [])]
    sockets = [replace(endpoint, address=address) for address in addresses]
    # The user's own go by ssh, which reaches what listens on the guest's loopback alone.
    by_ssh = forward.origin is Origin.USER
    return tuple(
        Binding(driver=Driver.SSH if by_ssh or one.is_ipv6 else tcp_driver, endpoint=one, guest=forward.guest)
        for one in sockets
    )


class Table:
    """The forwards of one machine by their endpoints; `tcp_driver` carries those of TCP that leave a choice."""

    def __init__(self, tcp_driver: Driver, *, ipv6: bool) -> None:
        self.tcp_driver = tcp_driver
        self._ipv6 = ipv6
        self._forwards: dict[Endpoint | SocketPath, Forward] = {}

    def __iter__(self) -> Iterator[Forward]:
        """Ports first, then sockets."""
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
        """The sockets that a forward needs.

        Raises:
            ValueError: nothing can carry it.
        """
        return bindings(forward, self.tcp_driver, ipv6=self._ipv6)

    def rival(self, forward: Forward) -> Forward | None:
        """Another forward that listens where this one wants to.

        Raises:
            ValueError: nothing can carry this one.
        """
        wanted = {binding.endpoint for binding in self.bindings(forward)}
        others = (other for other in self if other != forward)
        return next((o for o in others if wanted.intersection(one.endpoint for one in self.bindings(o))), None)

    def dump(self) -> str:
        """As JSON, for a supervisor that takes over from this one."""
        return json.dumps({"tcp_driver": self.tcp_driver, "forwards": dump_forwards(self)})

    @classmethod
    def load(cls, text: str, *, ipv6: bool) -> Table:
        """What `dump` wrote.

        Raises:
            ValueError: it did not.
        """
        try:
            document = json.loads(text)
            table = cls(Driver(document["tcp_driver"]), ipv6=ipv6)
            for forward in load_forwards(document["forwards"]):
                table.add(forward)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a table of forwards: {error}") from error
        return table
