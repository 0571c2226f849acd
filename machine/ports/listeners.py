"""Open and close the sockets on which the host listens for forwards, and note which cannot be opened."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Container, Iterable
from typing import Protocol

from machine.errors import MachineError
from machine.model.ports import Driver, Endpoint, PortState, PortStatus, SocketPath
from machine.model.ports import Protocol as Transport
from machine.ports.drivers import Drivers, remove_socket
from machine.ports.holder import check_can_listen
from machine.ports.table import Binding

log = logging.getLogger(__name__)

_WAITING_REASONS = {Driver.SLIRP: "waits for QEMU", Driver.SSH: "waits for the SSH server"}


class Predecessor(Protocol):
    """A process that may listen at some endpoints until it is asked to give way."""

    def holds(self, place: Endpoint | SocketPath, /) -> bool: ...

    async def release(self, place: Endpoint | SocketPath, /) -> None: ...


class _Nobody:
    def holds(self, _: Endpoint | SocketPath, /) -> bool:
        return False

    async def release(self, _: Endpoint | SocketPath, /) -> None: ...


NOBODY: Predecessor = _Nobody()


class Listeners:
    """Opens each binding while its driver is up.

    When a binding cannot be opened, `on_failure` is called with the reason, and with None as soon as no binding fails
    any more. Callers must hold a lock, because two calls must not overlap. `predecessor` gives way to each binding just
    before the binding is opened.
    """

    def __init__(
        self, drivers: Drivers, on_failure: Callable[[str | None], None], predecessor: Predecessor = NOBODY
    ) -> None:
        self._predecessor = predecessor
        self._drivers = drivers
        self._on_failure = on_failure
        self._up: set[Driver] = set()
        self._open: set[Binding] = set()
        self._failures: dict[Binding, str] = {}
        self._reported: str | None = None
        self.failed = asyncio.Event()
        """Set while there is a binding that could not be opened."""

    def assume_open(self, bindings: Iterable[Binding]) -> None:
        """Note that these bindings are open, because an earlier supervisor has opened them."""
        self._open.update(bindings)

    def assume_closed(self, bindings: Iterable[Binding]) -> None:
        """Note that these bindings are not open, whatever an earlier supervisor has left."""
        self._open.difference_update(bindings)

    async def retire(self, kept: Container[Endpoint | SocketPath]) -> None:
        """Have QEMU stop listening for TCP, and note that ssh is about to end.

        The sockets of `kept` stay, because another process has them, too. No binding is opened until its driver is
        noted to be up again.
        """
        self._up.clear()
        for binding in list(self._open):
            is_udp = isinstance(binding.endpoint, Endpoint) and binding.endpoint.protocol is Transport.UDP
            if binding.driver is Driver.SLIRP and not is_udp:
                await self._close_one(binding)
            elif binding.endpoint in kept:
                self._open.discard(binding)

    def on_driver_up(self, driver: Driver) -> None:
        self._up.add(driver)
        self._drivers.on_driver_up(driver)

    def on_driver_down(self, driver: Driver) -> None:
        """Note that the driver has ended, and that its bindings are therefore closed. Forget the bindings' failures."""
        self._up.discard(driver)
        for binding in [one for one in self._open if one.driver is driver]:
            self._open.discard(binding)
            remove_socket(binding)
        self._failures = {one: why for one, why in self._failures.items() if one.driver is not driver}
        self._report()

    def status(self, bindings: Iterable[Binding]) -> PortStatus:
        """Return the status of a forward that needs these bindings."""
        closed = [binding for binding in bindings if binding not in self._open]
        if not closed:
            return PortStatus(state=PortState.OPEN)
        for binding in closed:
            if reason := self._failures.get(binding):
                return PortStatus(state=PortState.FAILED, reason=reason)
        return PortStatus(state=PortState.WAITING, reason=_WAITING_REASONS[closed[0].driver])

    def vanished(self) -> list[Binding]:
        """Return the open bindings whose Unix socket no longer has a file."""
        return [
            one
            for one in self._open
            # Not Path.exists, which raises if the directory is no longer accessible.
            if isinstance(one.endpoint, SocketPath) and not os.path.exists(one.endpoint.path)  # noqa: PTH110
        ]

    async def open_all(self, bindings: Iterable[Binding]) -> None:
        """Open all of these bindings. If one cannot be opened, close the others again.

        Raises:
            MachineError: a binding cannot be opened.
        """
        before = set(self._open)
        try:
            for binding in bindings:
                await self._open_one(binding)
        except MachineError:
            for binding in self._open - before:
                await self._close_one(binding)
            raise

    async def try_open(self, bindings: Iterable[Binding]) -> None:
        """Open each of these bindings that can be opened, and note why the others cannot."""
        for binding in bindings:
            try:
                await self._open_one(binding)
            except MachineError as error:
                if self._failures.get(binding) != error.message:
                    log.error("%s", error)
                    self._failures[binding] = error.message
            else:
                self._failures.pop(binding, None)
        self._report()

    async def close(self, bindings: Collection[Binding]) -> None:
        """Close these bindings if they are open, and forget their failures."""
        for binding in self._open.intersection(bindings):
            await self._close_one(binding)
        for binding in bindings:
            self._failures.pop(binding, None)
        self._report()

    async def _open_one(self, binding: Binding) -> None:
        """Open a binding, unless its driver is down. When a driver comes up, all of its bindings are opened."""
        if binding in self._open:
            return
        if self._predecessor.holds(binding.endpoint):
            if binding.driver not in self._up:
                return
            await self._predecessor.release(binding.endpoint)
        else:
            await asyncio.to_thread(check_can_listen, binding.endpoint)
        if binding.driver not in self._up:
            return
        try:
            await self._drivers.open(binding)
        except MachineError:
            await self._close_one(binding)  # after a timeout, the driver may still have opened it
            if binding.driver not in self._up:  # the driver has ended meanwhile
                return
            raise
        if binding.driver in self._up:  # else the driver has ended, and closed the binding
            self._open.add(binding)

    async def _close_one(self, binding: Binding) -> None:
        self._open.discard(binding)
        try:
            await self._drivers.close(binding)
        except MachineError as error:
            log.info("%s", error)

    def _report(self) -> None:
        if self._failures:
            self.failed.set()
        else:
            self.failed.clear()
        reason = next(iter(self._failures.values()), None)
        if reason != self._reported:
            self._reported = reason
            self._on_failure(reason)
