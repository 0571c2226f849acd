"""The port API's server: guest Podman's requests come in on a Unix socket, one relay process each (QEMU's guestfwd)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Container, Iterable
from http import HTTPStatus
from pathlib import Path

from machine.errors import MachineError
from machine.files import write_atomic
from machine.model.ports import Driver, Endpoint, Forward, Origin, SocketPath
from machine.ports import api
from machine.ports.drivers import Drivers, remove_socket
from machine.ports.holder import host_has_ipv6, why_not_free
from machine.ports.table import Binding, Table

log = logging.getLogger(__name__)

_REQUEST_S = 10.0
_MOST_REQUESTS = 256  # one after the other
_MOST_SILENT = 64
_BACKLOG = 256  # more than these at once wait here until they are sent away
_RETRY_S = 1.0
_RETRY_MOST_S = 15.0

OPEN = "open"


class PortServer:
    """Answers the port API and keeps what it grants: through lost SSH masters, and past the end of this supervisor.

    A forward waits for its carrier where that is not there, and one that cannot be opened is tried again and again;
    `on_failure` hears of the first such one, or an empty string when there is none any more.
    """

    def __init__(
        self, drivers: Drivers, table_file: Path, tcp_driver: Driver, on_failure: Callable[[str], None]
    ) -> None:
        self._drivers = drivers
        self._table_file = table_file
        self._ipv6 = host_has_ipv6()
        self._table = Table(tcp_driver, ipv6=self._ipv6)
        self._on_failure = on_failure
        self._carriers: set[Driver] = set()
        # What is known to listen; of an earlier supervisor's, QEMU's do.
        self._open: set[Binding] = set()
        self._failures: dict[Binding, str] = {}
        self._failed = asyncio.Event()
        self._told = ""
        self._changing = asyncio.Lock()
        # Who has not yet said what it wants, the most patient first.
        self._silent: dict[asyncio.StreamWriter, None] = {}
        self._requests = 0

    async def serve(self, path: Path) -> asyncio.Server:
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path, limit=api.MAX_HEAD_BYTES, backlog=_BACKLOG)
        path.chmod(0o600)
        return server

    def take_over(self) -> None:
        """Know what an earlier supervisor has granted; QEMU still listens for it."""
        try:
            self._table = Table.load(self._table_file.read_text(), ipv6=self._ipv6)
        except (OSError, ValueError) as error:
            log.info("no forwards of an earlier supervisor: %s", error)
        for forward in self._table:
            self._open |= {binding for binding in self._table.bindings(forward) if binding.driver is Driver.SLIRP}

    def preload(self, forwards: Iterable[Forward]) -> None:
        """Know the user's own forwards before there is anything to carry them."""
        for forward in forwards:
            self._table.add(forward)
        self._save()

    def all(self) -> list[tuple[Forward, str]]:
        """Every forward, by its endpoint, with OPEN or why it is not."""
        return [(forward, self._state(forward)) for forward in self._table]

    def _state(self, forward: Forward) -> str:
        missing = [one for one in self._table.bindings(forward) if one not in self._open]
        if not missing:
            return OPEN
        return next((self._failures[one] for one in missing if one in self._failures), _waiting(missing[0].driver))

    # What happens to the machine

    async def carrier_is_up(self, driver: Driver) -> None:
        """Everything that waits for it is opened; what it carried under an earlier supervisor it still carries.

        And nothing else is: whoever gives the carrier up may cancel this, and QEMU must not be left in the middle.
        """
        self._carriers.add(driver)
        async with self._changing:
            await self._open_missing([driver])

    def carrier_is_gone(self, driver: Driver) -> None:
        """With everything that it carried."""
        self._carriers.discard(driver)
        for binding in [one for one in self._open if one.driver is driver]:
            self._open.discard(binding)
            remove_socket(binding)
        self._failures = {one: why for one, why in self._failures.items() if one.driver is not driver}
        self._tell_failures()

    async def keep_trying(self) -> None:
        """Open what could not be opened, for as long as there is such a forward; does not return."""
        pause = _RETRY_S
        while True:
            if not self._failed.is_set():
                pause = _RETRY_S
                await self._failed.wait()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _RETRY_MOST_S)
            async with self._changing:
                await self._open_missing()

    async def _open_missing(self, drivers: Container[Driver] = frozenset(Driver)) -> None:
        for forward in self._table:
            for binding in self._table.bindings(forward):
                if binding.driver not in drivers:
                    continue
                try:
                    await self._listen(binding)
                except MachineError as error:
                    if self._failures.get(binding) != error.message:
                        log.error("%s", error)
                        self._failures[binding] = error.message
                else:
                    self._failures.pop(binding, None)
        self._tell_failures()

    def _tell_failures(self) -> None:
        (self._failed.set if self._failures else self._failed.clear)()
        reason = next(iter(self._failures.values()), "")
        if reason != self._told:
            self._told = reason
            self._on_failure(reason)

    async def _listen(self, binding: Binding) -> None:
        """Or leave it to its carrier's coming."""
        if binding in self._open:
            return
        if reason := await asyncio.to_thread(why_not_free, binding.endpoint):
            raise MachineError(reason)
        if binding.driver not in self._carriers:
            return
        try:
            await self._drivers.open(binding)
        except MachineError:
            await self._shut(binding)  # an answer that came too late may have left it open
            if binding.driver not in self._carriers:  # lost meanwhile
                return
            raise
        if binding.driver in self._carriers:  # else it is lost again, with what it had just opened
            self._open.add(binding)

    async def guest_has_reset(self) -> None:
        """Its containers are gone, and publish their ports again when they start."""
        async with self._changing:
            for forward in self._table.of(Origin.PUBLISHED):
                await self._close(forward)

    async def check_sockets(self) -> None:
        """Whoever tidies directories up may have removed one that is listened on; it is made anew."""
        lost = [
            one
            for one in self._open
            # Not Path.exists, which raises where a directory may no longer be entered.
            if isinstance(one.endpoint, SocketPath) and not os.path.exists(one.endpoint.path)  # noqa: PTH110
        ]
        if lost:
            async with self._changing:
                for binding in lost:
                    await self._shut(binding)
                await self._open_missing()

    def published(self) -> list[Forward]:
        return self._table.of(Origin.PUBLISHED)

    async def close_unused(self, before: Iterable[Forward], used: Container[tuple[int, str]]) -> None:
        """Take back those of `before` whose port and protocol no container publishes any more."""
        async with self._changing:
            for forward in before:
                endpoint = forward.endpoint
                if isinstance(endpoint, Endpoint) and (endpoint.port, endpoint.protocol.value) not in used:
                    log.info("no container publishes %s any more", endpoint)
                    await self._close(forward)

    # The API

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await self._read_request(reader, writer)
            writer.write(await self._carry_out(request))
        except api.RequestError as error:
            log.info("port API: %s", error)
            writer.write(api.encode_response(error.status, str(error)))
        except asyncio.LimitOverrunError:
            writer.write(api.encode_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large"))
        except MachineError as error:
            log.warning("port API: %s", error.line)
            writer.write(api.encode_response(HTTPStatus.INTERNAL_SERVER_ERROR, error.line))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("port API: a client that did not finish: %s", error)
        finally:
            with contextlib.suppress(OSError):
                await writer.drain()
                writer.close()

    async def _read_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> api.Request:
        """A crowd of those that say nothing costs the most patient of them its place, and nobody else anything."""
        if len(self._silent) >= _MOST_SILENT:
            patient = next(iter(self._silent))
            del self._silent[patient]  # of a crowd that comes at once, each costs another one
            patient.transport.abort()
        self._silent[writer] = None
        try:
            async with asyncio.timeout(_REQUEST_S):
                head = api.parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
                return api.parse_request(head, await reader.readexactly(head.length))
        finally:
            self._silent.pop(writer, None)

    async def _carry_out(self, request: api.Request) -> bytes:
        if self._requests >= _MOST_REQUESTS:
            raise api.RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once")
        self._requests += 1
        try:
            return await self._do(request)
        finally:
            self._requests -= 1

    async def _do(self, request: api.Request) -> bytes:
        match request:
            case api.Expose(forward=forward):
                await self.add(forward)
            case api.Unexpose(endpoint=endpoint):
                await self.remove(endpoint, Origin.PUBLISHED)
            case api.ListAll():
                published = self._table.of(Origin.PUBLISHED)
                return api.encode_response(HTTPStatus.OK, api.encode_forwards(published), kind="application/json")
        return api.encode_response(HTTPStatus.OK)

    async def add(self, forward: Forward) -> None:
        """Grant a forward.

        Raises:
            MachineError: the host cannot listen there, in a sentence that names the way out.
        """
        async with self._changing:
            try:
                rival = self._table.rival(forward)
            except ValueError as error:
                raise MachineError(str(error)) from error
            if rival:
                other = "path" if isinstance(forward.endpoint, SocketPath) else "host port"
                raise MachineError(
                    f"cannot publish {forward.endpoint}: this machine forwards {rival.endpoint} already; "
                    f"choose another {other}"
                )
            # It may be there already: a container that has died without saying so starts again.
            before = set(self._open)
            try:
                for binding in self._table.bindings(forward):
                    await self._listen(binding)
            except MachineError:
                for binding in self._open - before:
                    await self._shut(binding)
                raise
            self._table.add(forward)
            self._save()

    async def remove(self, endpoint: Endpoint | SocketPath, origin: Origin) -> None:
        """Take back a forward of this origin; one that is not there is gone already."""
        async with self._changing:
            forward = self._table.get(endpoint)
            if forward and forward.origin is origin:
                await self._close(forward)

    async def _close(self, forward: Forward) -> None:
        for binding in self._open.intersection(self._table.bindings(forward)):
            await self._shut(binding)
        for binding in self._table.bindings(forward):
            self._failures.pop(binding, None)
        self._tell_failures()
        self._table.remove(forward.endpoint)
        self._save()

    async def _shut(self, binding: Binding) -> None:
        self._open.discard(binding)
        try:
            await self._drivers.close(binding)
        except MachineError as error:
            log.info("%s", error)

    def _save(self) -> None:
        try:
            write_atomic(self._table_file, self._table.dump())
        except (MachineError, OSError) as error:
            log.error("cannot note the forwards: %s", error)


def _waiting(driver: Driver) -> str:
    return "waits for the guest's SSH server" if driver is Driver.SSH else "waits for QEMU"
