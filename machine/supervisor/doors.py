"""Listen in place of a machine that is asleep, and hold the clients that come until the machine can be reached."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine.errors import MachineError
from machine.model.ports import Driver, Endpoint, Forward, Origin, Protocol, SocketPath
from machine.ports.holder import host_has_ipv6
from machine.ports.table import Binding, Table
from machine.sockets import has_hung_up, new_path
from machine.store.paths import MachinePaths

log = logging.getLogger(__name__)

_BACKLOG = 4096
_PRIVATE_UMASK = 0o177
_SSH_PORT = 22

Place = Endpoint | SocketPath


@dataclass(frozen=True, kw_only=True, eq=False)
class Visitor:
    """A client that waits for the machine, and the place to which it has connected."""

    connection: socket.socket
    place: Place


def places(paths: MachinePaths, forwards: Iterable[Forward], ssh_port: int, *, sleeps: bool) -> list[Place]:
    """Return where clients of a machine that is asleep can come, which is where the machine listens while it runs.

    `forwards` are the user's own. The containers of a machine that `sleeps`, which is suspended, keep their published
    ports. A machine that will boot has none yet. UDP has no connections.
    """
    table = _published(paths) if sleeps else _empty_table()
    for forward in forwards:
        table.add(forward)
    return [
        SocketPath(path=os.fspath(paths.podman_socket)),
        SocketPath(path=os.fspath(paths.podman_root_socket)),
        ssh_place(ssh_port),
        *(
            binding.endpoint
            for binding in table.all_bindings()
            if isinstance(binding.endpoint, SocketPath) or binding.endpoint.protocol is Protocol.TCP
        ),
    ]


def ssh_place(port: int) -> Endpoint:
    """Return where QEMU listens for SSH."""
    return Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=port)


def ssh_binding(port: int) -> Binding:
    """Return how QEMU forwards SSH."""
    return Binding(driver=Driver.SLIRP, endpoint=ssh_place(port), guest=_SSH_PORT)


def _empty_table() -> Table:
    return Table(Driver.SLIRP, ipv6=host_has_ipv6())


def _published(paths: MachinePaths) -> Table:
    table = _empty_table()
    with contextlib.suppress(OSError, ValueError):
        for forward in Table.load(paths.ports_table.read_text(), ipv6=host_has_ipv6()).of(Origin.PUBLISHED):
            table.add(forward)
    return table


class Doors:
    """The sockets on which this process listens, and the clients that have come to them.

    `on_visitor` is called for each client.
    """

    def __init__(self, on_visitor: Callable[[], None]) -> None:
        self._on_visitor = on_visitor
        self._listeners: dict[Place, socket.socket] = {}
        self.visitors: list[Visitor] = []

    @property
    def places(self) -> list[Place]:
        """The places at which this process listens."""
        return list(self._listeners)

    def open(self, wanted: Sequence[Place], inherited: dict[str, socket.socket] | None = None) -> None:
        """Listen at each of the places where this is possible.

        `inherited` are sockets on which this process listens already, by what their places are written as. They are
        taken out of it.
        """
        loop = asyncio.get_running_loop()
        for place in wanted:
            try:
                listener = (inherited or {}).pop(str(place), None) or listen(place)
            except (OSError, MachineError) as error:
                log.warning("clients of %s are not waited for: %s", place, error)
                continue
            listener.setblocking(False)
            self._listeners[place] = listener
            loop.add_reader(listener, self._admit, place)

    def _admit(self, place: Place) -> None:
        """Take in all clients that have come to a place."""
        listener = self._listeners[place]
        try:
            for connection in take_in(listener):
                log.info("a client has come to %s", place)
                self.visitors.append(Visitor(connection=connection, place=place))
                self._on_visitor()
        except OSError as error:  # too many open files; the other clients wait in the queue
            log.warning("no more clients of %s are taken in: %s", place, error)
            asyncio.get_running_loop().remove_reader(listener)

    def release(self, text: str) -> None:
        """Stop listening at the place that is written as `text`. Clients that have come stay."""
        for place in [one for one in self._listeners if str(one) == text]:
            self._close(place)
            _remove_file(place)

    def close(self) -> None:
        """Stop listening where the machine listens now. Clients that have come stay."""
        for place in self.places:
            self._close(place)

    def shut(self) -> None:
        """Stop listening, and hang up on all clients that have come."""
        for place in self.places:
            self._close(place)
            _remove_file(place)
        for visitor in self.visitors:
            visitor.connection.close()
        self.visitors.clear()

    def _close(self, place: Place) -> None:
        listener = self._listeners[place]
        asyncio.get_running_loop().remove_reader(listener)
        self._admit(place)
        del self._listeners[place]
        listener.close()


def _remove_file(place: Place) -> None:
    if isinstance(place, SocketPath):
        Path(place.path).unlink(missing_ok=True)


def take_in(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept all clients that wait at a socket, which does not block, except those that have gone again.

    While the supervisor of a machine suspends it, its own questions to Podman end in this way.

    Raises:
        OSError: this process has too many open files.
    """
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except ConnectionError:  # this client has gone again
            continue
        if has_hung_up(connection.fileno()):
            connection.close()
        else:
            yield connection


def listen(place: Place) -> socket.socket:
    """Listen at a place. Replace a Unix socket that is there, without a moment in which clients are refused.

    Raises:
        OSError: this is not possible.
    """
    if isinstance(place, SocketPath):
        return _listen_on_path(Path(place.path))
    listener = socket.socket(socket.AF_INET6 if place.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.is_ipv6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((place.address, place.port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_on_path(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user may use. Another process may listen there until then."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_PRIVATE_UMASK)
    replaces = path.is_socket()
    made = new_path(path) if replaces else path
    try:
        if replaces and made.is_socket():
            made.unlink()
        listener.bind(os.fspath(made))
        listener.listen(_BACKLOG)
        made.replace(path)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
