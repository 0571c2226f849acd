"""The forwards of a running machine: which there are, who may have them, and when each is opened and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Iterable
from pathlib import Path

from machine.errors import MachineError
from machine.files import write_atomic
from machine.model.ports import Driver, Endpoint, Forward, Origin, PortStatus, SocketPath
from machine.ports.drivers import Drivers
from machine.ports.holder import host_has_ipv6
from machine.ports.listeners import Listeners
from machine.ports.table import Table

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_MAX_RETRY_S = 15.0


class Forwarding:
    """Grants forwards, and keeps them: through lost SSH masters, and in `table_file` past the end of this supervisor.

    A forward whose driver is down waits for it, and one that cannot be opened is tried again and again; `on_failure`
    is called with the reason of the first such one, and with None when there is none any more.
    """

    def __init__(
        self,
        drivers: Drivers,
        table_file: Path,
        tcp_driver: Driver,
        on_failure: Callable[[str | None], None],
    ) -> None:
        self._table_file = table_file
        self._ipv6 = host_has_ipv6()
        self._table = Table(tcp_driver, ipv6=self._ipv6)
        self._listeners = Listeners(drivers, on_failure)
        self._changing = asyncio.Lock()

    def take_over(self) -> None:
        """Load what an earlier supervisor has granted; QEMU still listens for it."""
        try:
            self._table = Table.load(self._table_file.read_text(), ipv6=self._ipv6)
        except (OSError, ValueError) as error:
            log.info("no forwards of an earlier supervisor: %s", error)
        self._listeners.assume_open(one for one in self._table.all_bindings() if one.driver is Driver.SLIRP)

    def preload(self, forwards: Iterable[Forward]) -> None:
        """Add the user's own forwards, which are opened when their drivers are up."""
        for forward in forwards:
            self._table.add(forward)
        self._save()

    def statuses(self) -> list[tuple[Forward, PortStatus]]:
        """Return every forward with its state, by its endpoint."""
        return [(forward, self._listeners.status(self._table.bindings(forward))) for forward in self._table]

    def published(self) -> list[Forward]:
        """Return the forwards that guest Podman asked for."""
        return self._table.of(Origin.PUBLISHED)

    async def add(self, forward: Forward) -> bool:
        """Grant a forward, and return whether it was not there before.

        One that is there already may come from a container that died without a word and now starts again.

        Raises:
            MachineError: the host cannot listen there; the message says what to do.
        """
        async with self._changing:
            try:
                bindings = self._table.bindings(forward)
            except ValueError as error:
                raise MachineError(str(error)) from error
            if rival := self._table.rival(forward):
                other = "path" if isinstance(forward.endpoint, SocketPath) else "host port"
                raise MachineError(
                    f"cannot publish {forward.endpoint}: this machine already forwards {rival.endpoint}; "
                    f"choose another {other}"
                )
            is_new = self._table.get(forward.endpoint) is None
            await self._listeners.open_all(bindings)
            self._table.add(forward)
            self._save()
        return is_new

    async def remove(self, endpoint: Endpoint | SocketPath, origin: Origin) -> None:
        """Take back a forward of this origin; where there is none, do nothing."""
        async with self._changing:
            forward = self._table.get(endpoint)
            if forward and forward.origin is origin:
                await self._close(forward)

    async def close_unused(self, before: Iterable[Forward], used: Container[tuple[int, str]]) -> None:
        """Take back those of `before` whose port and protocol no container publishes any more."""
        async with self._changing:
            for forward in before:
                endpoint = forward.endpoint
                if isinstance(endpoint, Endpoint) and (endpoint.port, endpoint.protocol.value) not in used:
                    log.info("no container publishes %s any more", endpoint)
                    await self._close(forward)

    async def _close(self, forward: Forward) -> None:
        await self._listeners.close(self._table.bindings(forward))
        self._table.remove(forward.endpoint)
        self._save()

    # What happens to the machine

    async def driver_is_up(self, driver: Driver) -> None:
        """Open everything that waits for this driver, and nothing else.

        Whoever waits for an SSH master may be cancelled, which must not interrupt what is asked of QEMU.
        """
        self._listeners.driver_is_up(driver)
        async with self._changing:
            await self._listeners.try_open(one for one in self._table.all_bindings() if one.driver is driver)

    def driver_is_down(self, driver: Driver) -> None:
        """Note that the driver has ended, and that everything it forwarded waits for its return."""
        self._listeners.driver_is_down(driver)

    async def guest_has_reset(self) -> None:
        """Close what containers had published: they publish their ports again when they start."""
        async with self._changing:
            for forward in self.published():
                await self._close(forward)

    async def check_sockets(self) -> None:
        """Listen again on sockets that somebody has removed from the file system."""
        if vanished := self._listeners.vanished():
            async with self._changing:
                await self._listeners.close(vanished)
                await self._listeners.try_open(self._table.all_bindings())

    async def keep_trying(self) -> None:
        """Open what could not be opened, as long as there is such a forward; never returns."""
        pause = _RETRY_S
        while True:
            if not self._listeners.failed.is_set():
                pause = _RETRY_S
                await self._listeners.failed.wait()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_RETRY_S)
            async with self._changing:
                await self._listeners.try_open(self._table.all_bindings())

    def _save(self) -> None:
        try:
            write_atomic(self._table_file, self._table.dump())
        except (MachineError, OSError) as error:
            log.error("cannot save the forwards: %s", error)
