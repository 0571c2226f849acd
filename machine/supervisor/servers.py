"""Open the sockets on which a supervisor listens, and make them anew when they have been removed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from machine.errors import MachineError
from machine.ports.forwarding import Forwarding
from machine.ports.server import PortServer
from machine.store.paths import MachinePaths, make_private
from machine.supervisor.control_server import ControlServer
from machine.supervisor.events import SocketsLost
from machine.supervisor.phases import Phase
from machine.supervisor.tracker import LifeTracker

log = logging.getLogger(__name__)


class Servers:
    """Answers other commands on the control socket, and the guest's Podman on the socket of the port API.

    When the last session of a user ends, the user's runtime directory is removed with all sockets, unless lingering is
    enabled. QEMU and the supervisor keep running, so sockets that have been removed are made anew. The `api_sockets`,
    which the SSH master makes, are among them.
    """

    def __init__(
        self,
        *,
        control: ControlServer,
        port_server: PortServer,
        ports: Forwarding,
        paths: MachinePaths,
        api_sockets: Iterable[Path],
        life: LifeTracker,
        every_s: float,
    ) -> None:
        self._control = control
        self._port_server = port_server
        self._ports = ports
        self._paths = paths
        self._api_sockets = tuple(api_sockets)
        self._life = life
        self._every_s = every_s
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Listen on the control socket and on the socket of the port API. If these are open already, reopen them."""
        self.close()
        self._servers = [
            await self._control.serve(self._paths.control_socket),
            await self._port_server.serve(self._paths.ports_socket),
        ]

    def close(self) -> None:
        for server in self._servers:
            server.close()

    async def keep_open(self) -> None:
        """Check at intervals whether sockets have been removed, and if so, make them anew. This never returns."""
        while True:
            await asyncio.sleep(self._every_s)
            await self._ports.reopen_sockets()
            if all(socket.exists() for socket in self._sockets()):
                continue
            try:
                make_private(self._paths.runtime)
                await self.open()
            except (MachineError, OSError) as error:  # the user has no session yet
                log.debug("cannot make the sockets anew: %s", error)
                continue
            log.warning("the machine's sockets were removed; they have been made anew")
            self._life.post(SocketsLost())

    def _sockets(self) -> list[Path]:
        api = self._api_sockets if self._is_up else ()
        return [self._paths.control_socket, self._paths.ports_socket, *api]

    @property
    def _is_up(self) -> bool:
        return self._life.current.phase is Phase.UP

    async def finish(self, kept: Collection[Path] = ()) -> None:
        """Send the rest of the answers to the clients, then remove all sockets of the machine, except those `kept`."""
        await self._control.flush()
        with contextlib.suppress(FileNotFoundError):  # the whole directory has been removed
            for path in self._paths.runtime.iterdir():
                if path not in kept:
                    path.unlink(missing_ok=True)
