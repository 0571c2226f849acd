"""Suspend a machine when nobody has used it for some time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from machine import async_runner, lock
from machine.errors import MachineError
from machine.model.idle import Activity, IdleSuspend, is_due, is_idle
from machine.model.ports import Endpoint, Protocol, SocketPath
from machine.model.state import State
from machine.ports.forwarding import Forwarding
from machine.ports.traffic import SocketTraffic, links_through, own_ports, tcp_links
from machine.sockets import new_path
from machine.supervisor.clock import HostClock
from machine.supervisor.commands import Commands

log = logging.getLogger(__name__)

_MIN_PAUSE_S, _MAX_PAUSE_S = 5.0, 60.0
_LOOKS = 4
_COUNT_S = 30.0
# Each running container has a process of this name beside it.
_COUNT = "cat /proc/[0-9]*/comm 2>/dev/null | grep -cx conmon || true"


@dataclass(kw_only=True)
class IdleWatch:
    """Looks at intervals whether anybody uses the machine, and requests a suspend when nobody has for long enough.

    The host's sleep does not count, and the time begins anew after it.
    """

    wish: IdleSuspend
    commands: Commands
    look: Callable[[], Awaitable[Activity]]
    clock: Callable[[], float] = time.monotonic
    host_clock: HostClock = field(default_factory=HostClock)
    _up_since: float | None = field(default=None, init=False)
    _idle_since: float | None = field(default=None, init=False)

    @property
    def pause_s(self) -> float:
        return min(max(self.wish.after_s / _LOOKS, _MIN_PAUSE_S), _MAX_PAUSE_S)

    async def watch(self) -> None:
        """Look at the machine at intervals. This never returns."""
        while True:
            await asyncio.sleep(self.pause_s)
            await self.look_once()

    async def look_once(self) -> None:
        """Look at the machine, and request a suspend if it is due."""
        now = self.clock()
        if self.commands.state.state is not State.RUNNING:
            self._up_since = self._idle_since = None
            return
        if self._up_since is None:
            self._up_since = now
        if self.host_clock.has_jumped() or not is_idle(await self.look(), self.wish):
            self._idle_since = None
            return
        if self._idle_since is None:
            self._idle_since = now
        if is_due(self.wish, idle_s=now - self._idle_since, up_s=now - self._up_since):
            self._idle_since = None  # if the machine cannot be suspended, it is tried again much later
            try:
                self.commands.suspend(if_idle=True)
            except MachineError as error:
                log.info("the idle machine is not suspended: %s", error)
            else:
                log.info("nobody uses the machine, so it is suspended")


@dataclass(kw_only=True)
class GuestActivity:
    """Finds out what goes on in a running machine."""

    ports: Forwarding
    ssh_port: int
    api_sockets: Sequence[Path]
    console_lock: Path
    """The lock that a command holds while it is attached to the console."""

    ssh: Callable[[str], Sequence[str]]
    """Returns the command line that runs a command as root in the guest, over the SSH master."""

    pids: Callable[[], list[int]]
    """Returns the processes that listen for the machine."""

    counts_containers: bool
    time_scale: int
    _sockets: SocketTraffic = field(default_factory=SocketTraffic, init=False)

    async def look(self) -> Activity:
        """Count the connections and, if there are none, the guest's containers."""
        connections = self.connections()
        containers = await self._containers() if connections == 0 and self.counts_containers else None
        return Activity(connections=connections, containers=containers)

    def connections(self) -> int:
        """Return how many connections lead to the machine, or have since the last look.

        A command that is attached to the console counts as one.
        """
        endpoints = [forward.endpoint for forward, _ in self.ports.statuses()]
        ports = {one.port for one in endpoints if isinstance(one, Endpoint) and one.protocol is Protocol.TCP}
        paths = [*self.api_sockets, *(Path(one.path) for one in endpoints if isinstance(one, SocketPath))]
        through = links_through({*ports, self.ssh_port}, tcp_links(self.pids()), own_ports(self.ssh_port))
        in_sockets = self._sockets.count(paths, [new_path(path) for path in self.api_sockets])
        return len(through) + in_sockets + lock.is_held(self.console_lock)

    async def _containers(self) -> int | None:
        try:
            done = await async_runner.run(
                self.ssh(_COUNT), timeout_s=_COUNT_S * self.time_scale, check=False, logged=False
            )
            return int(done.stdout)
        except (MachineError, OSError, ValueError) as error:
            log.debug("the guest's containers are not counted: %s", error)
            return None
