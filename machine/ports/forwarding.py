"""Grant, open and close the forwards of a running machine."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

from machine.errors import MachineError, Page
from machine.files import write_atomic
from machine.model.ports import Driver, Endpoint, Forward, Origin, PortStatus, SocketPath
from machine.ports.drivers import Drivers
from machine.ports.holder import host_has_ipv6
from machine.ports.limits import DEFAULT_LIMITS, PublishLimits, refusal
from machine.ports.listeners import NOBODY, Listeners, Predecessor
from machine.ports.table import Binding, Table

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_MAX_RETRY_S = 15.0


class Forwarding:
    """Grants forwards, and opens them again whenever a new SSH master has connected.

    The forwards are saved in `table_file` for a later supervisor. A forward waits while its driver is down. If a
    forward cannot be opened, `on_failure` is called with the reason, and the forward is tried again later. When all
    forwards are open, `on_failure` is called with None. `standing` are the bindings that QEMU always has, by its
    command line or opened here. It is None where there is no QEMU.
    """

    def __init__(
        self,
        drivers: Drivers,
        table_file: Path,
        tcp_driver: Driver,
        on_failure: Callable[[str | None], None],
        limits: PublishLimits = DEFAULT_LIMITS,
        predecessor: Predecessor = NOBODY,
        standing: Sequence[Binding] | None = (),
    ) -> None:
        self._limits = limits
        self._table_file = table_file
        self._ipv6 = host_has_ipv6()
        self._table = Table(tcp_driver, ipv6=self._ipv6, slirp=standing is not None)
        self._drivers = drivers
        self._standing = standing or ()
        self._listeners = Listeners(drivers, on_failure, predecessor)
        self._changing = asyncio.Lock()

    def take_over(self) -> None:
        """Load the forwards of an earlier supervisor. Forwards whose driver is QEMU's network are still open."""
        self.load()
        self._listeners.assume_open(self._bindings_of(Driver.SLIRP))

    def load(self) -> None:
        """Load the forwards of an earlier supervisor. They are opened when their drivers are up."""
        try:
            self._table = Table.load(self._table_file.read_text(), ipv6=self._ipv6)
        except (OSError, ValueError) as error:
            log.info("no forwards of an earlier supervisor: %s", error)

    def preload(self, forwards: Iterable[Forward]) -> None:
        """Add the user's own forwards, which are opened when their drivers are up."""
        for forward in forwards:
            self._table.add(forward)
        self._save()

    def statuses(self) -> list[tuple[Forward, PortStatus]]:
        """Return every forward with its status, sorted by endpoint."""
        return [(forward, self._listeners.status(self._table.bindings(forward))) for forward in self._table]

    def published(self) -> list[Forward]:
        """Return the forwards that Podman in the guest requested."""
        return self._table.of(Origin.PUBLISHED)

    def publishes(self, endpoint: Endpoint) -> bool:
        """Return whether there is a forward from this endpoint that Podman in the guest requested."""
        forward = self._table.get(endpoint)
        return forward is not None and forward.origin is Origin.PUBLISHED

    async def add(self, forward: Forward) -> bool:
        """Open a forward, and return whether the forward is new.

        If a container is killed, its forward stays open. When the container starts again, the forward is not new.

        Raises:
            MachineError: the host cannot listen on the forward's endpoint, or containers are not permitted to have the
                port. The message says what to do.
        """
        async with self._changing:
            self._check_limits(forward)
            try:
                bindings = self._table.bindings(forward)
            except ValueError as error:
                raise MachineError(str(error)) from error
            if rival := self._table.rival(forward):
                other = "path" if isinstance(forward.endpoint, SocketPath) else "host port"
                raise MachineError(
                    f"cannot publish {forward.endpoint}: this machine already forwards {rival.endpoint}; "
                    f"choose another {other}",
                    page=Page.PORTS,
                )
            is_new = self._table.get(forward.endpoint) is None
            await self._listeners.open_all(bindings)
            self._table.add(forward)
            self._save()
        return is_new

    async def remove(self, endpoint: Endpoint | SocketPath, origin: Origin) -> None:
        """If a forward of this origin listens at `endpoint`, close it."""
        async with self._changing:
            forward = self._table.get(endpoint)
            if forward and forward.origin is origin:
                await self._close(forward)

    def _check_limits(self, forward: Forward) -> None:
        """If a container's forward is new, check that the machine's containers may have it.

        Raises:
            MachineError: the containers may not have the forward.
        """
        if forward.origin is Origin.PUBLISHED and self._table.get(forward.endpoint) is None:
            reason = refusal(forward, self._limits, len(self.published()))
            if reason:
                raise MachineError(reason, page=Page.PORTS)

    async def close_published(self, endpoints: Iterable[Endpoint], *, unless: Container[Endpoint]) -> list[Endpoint]:
        """Close containers' forwards from these endpoints, except those in `unless`. Return the closed endpoints."""
        closed = []
        async with self._changing:
            for endpoint in endpoints:
                forward = self._table.get(endpoint)
                if forward and forward.origin is Origin.PUBLISHED and endpoint not in unless:
                    await self._close(forward)
                    closed.append(endpoint)
        return closed

    async def ensure_published(self, endpoints: Iterable[Endpoint], *, unless: Container[Endpoint]) -> list[Endpoint]:
        """Make each of these ports lead to the guest's port of the same number. Return the ports that did not yet.

        Ports that `unless` contains, or that containers may not have, are left out. A port on which the host cannot
        listen is retried like other forwards.
        """
        async with self._changing:
            return [one for one in endpoints if one not in unless and await self._ensure_published(one)]

    async def _ensure_published(self, endpoint: Endpoint) -> bool:
        forward = Forward(endpoint=endpoint, guest=endpoint.port, origin=Origin.PUBLISHED)
        present = self._table.get(endpoint)
        if present == forward:
            return False
        try:
            self._check_limits(forward)
            bindings = self._table.bindings(forward)
        except (MachineError, ValueError) as error:
            log.warning("%s", error)
            return False
        if present and present.origin is Origin.PUBLISHED:
            await self._close(present)
        if rival := self._table.rival(forward):
            log.warning("cannot publish %s: this machine already forwards %s", endpoint, rival.endpoint)
            return False
        self._table.add(forward)
        self._save()
        await self._listeners.try_open(bindings)
        return True

    async def _close(self, forward: Forward) -> None:
        await self._listeners.close(self._table.bindings(forward))
        self._table.remove(forward.endpoint)
        self._save()

    # Events

    async def on_driver_up(self, driver: Driver) -> None:
        """Open all forwards of a driver that has come up.

        Forwards of the other driver are left alone. If an SSH master's task runs this and is cancelled, no operation of
        QEMU may be interrupted.
        """
        self._listeners.on_driver_up(driver)
        async with self._changing:
            if driver is Driver.SLIRP:
                await self._note_what_qemu_has()
            await self._listeners.try_open(self._bindings_of(driver))

    async def _note_what_qemu_has(self) -> None:
        """Note where QEMU listens already: by its command line, or for an earlier supervisor."""
        listed = await self._drivers.listed()
        if listed is None:
            self._listeners.assume_open(self._standing)
            return
        ours = self._bindings_of(Driver.SLIRP)
        self._listeners.assume_open(one for one in ours if one.endpoint in listed)
        self._listeners.assume_closed(one for one in ours if one.endpoint not in listed)

    def duplicates(self) -> dict[Endpoint | SocketPath, socket.socket]:
        """Return duplicates of the sockets on which clients reach the machine now, as far as the host allows that.

        The API sockets of the SSH master are called as ssh calls them.
        """
        return self._drivers.duplicates([*self._standing, *self._table.all_bindings()])

    async def retire(self, kept: Container[Endpoint | SocketPath]) -> None:
        """Let no more clients reach QEMU and ssh, which are about to end. The sockets of `kept` stay open elsewhere.

        If they do not end, `on_driver_up` opens everything again.
        """
        async with self._changing:
            await self._listeners.retire(kept)

    def on_driver_down(self, driver: Driver) -> None:
        """Note that a driver has ended. Its forwards wait until the driver is up again."""
        self._listeners.on_driver_down(driver)

    async def on_guest_reset(self) -> None:
        """Close the ports that containers published. The containers publish them again when they start."""
        async with self._changing:
            for forward in self.published():
                await self._close(forward)

    async def reopen_sockets(self) -> None:
        """Listen again on forwarded Unix sockets whose files have been removed."""
        if vanished := self._listeners.vanished():
            async with self._changing:
                await self._listeners.close(vanished)
                await self._listeners.try_open([*self._standing, *self._table.all_bindings()])

    async def retry_failed(self) -> None:
        """Retry forwards that could not be opened, with growing pauses between the attempts. This never returns."""
        pause = _RETRY_S
        while True:
            if not self._listeners.failed.is_set():
                pause = _RETRY_S
                await self._listeners.failed.wait()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_RETRY_S)
            async with self._changing:
                await self._listeners.try_open([*self._standing, *self._table.all_bindings()])

    def _bindings_of(self, driver: Driver) -> list[Binding]:
        return [one for one in (*self._standing, *self._table.all_bindings()) if one.driver is driver]

    def _save(self) -> None:
        try:
            write_atomic(self._table_file, self._table.dump())
        except (MachineError, OSError) as error:
            log.error("cannot save the forwards: %s", error)
