"""Keep clients waiting while a machine is being suspended, where QEMU and ssh have listened.

No client is refused from the moment at which QEMU and ssh stop listening. If the machine is suspended, the process that
waits for clients takes the sockets over. If it runs on, the clients that have come are carried to it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine.errors import MachineError
from machine.model.ports import Endpoint, SocketPath
from machine.ports.listeners import Predecessor
from machine.supervisor.carry import carry_all
from machine.supervisor.doors import Place, Visitor, listen, take_in

log = logging.getLogger(__name__)


class KeptDoors:
    """The sockets that stay open while a machine is being suspended, and the clients that have come to them.

    It gives way to whoever listens next, as `earlier` does, which is what this machine itself has taken over from.
    """

    def __init__(self, earlier: Predecessor) -> None:
        self._earlier = earlier
        self._listeners: dict[Place, socket.socket] = {}
        self._visitors: list[Visitor] = []

    def __contains__(self, place: object) -> bool:
        return place in self._listeners

    def keep(self, listeners: Mapping[Place, socket.socket]) -> None:
        """Keep these sockets open from now on."""
        self._listeners.update(listeners)

    def listen_at_others(self, wanted: Sequence[Place]) -> None:
        """Listen at those of the places where no socket is kept and where this is possible."""
        for place in wanted:
            if place not in self._listeners:
                try:
                    self._listeners[place] = listen(place)
                except (OSError, MachineError) as error:
                    log.info("clients of %s are refused until the machine sleeps: %s", place, error)

    def holds(self, place: Endpoint | SocketPath) -> bool:
        """Return whether somebody listens at a place who gives way to this machine."""
        return place in self._listeners or self._earlier.holds(place)

    async def release(self, place: Endpoint | SocketPath) -> None:
        """Have nobody listen at a place any more. Clients that have come stay."""
        if listener := self._listeners.pop(place, None):
            self._take_in(place, listener)
        else:
            await self._earlier.release(place)

    async def give_back(self) -> None:
        """Carry all clients that have come to the machine, which runs on and listens again itself."""
        for place in list(self._listeners):
            self._take_in(place, self._listeners.pop(place))
        visitors, self._visitors = self._visitors, []
        await carry_all(visitors)

    def pass_on(self) -> dict[int, Place]:
        """Return the descriptors of the sockets, which programs that this process becomes will have."""
        for listener in self._listeners.values():
            listener.set_inheritable(True)
        return {listener.fileno(): place for place, listener in self._listeners.items()}

    def close(self) -> None:
        """Hang up on all clients that have come."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        for visitor in self._visitors:
            visitor.connection.close()
        self._visitors.clear()

    @property
    def paths(self) -> list[Path]:
        """The Unix sockets that stay."""
        return [Path(place.path) for place in self._listeners if isinstance(place, SocketPath)]

    def _take_in(self, place: Place, listener: socket.socket) -> None:
        listener.setblocking(False)
        with listener, contextlib.suppress(OSError):
            self._visitors += [Visitor(connection=one, place=place) for one in take_in(listener)]
