"""The port API's server: guest Podman's requests come in on a Unix socket, one relay process each (QEMU's guestfwd)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

from machine.errors import MachineError
from machine.files import write_atomic
from machine.model.ports import Driver, Endpoint, Forward, Origin, SocketPath
from machine.ports import api
from machine.ports.drivers import Drivers, remove_socket
from machine.ports.holder import why_not_free
from machine.ports.table import Binding, Table

log = logging.getLogger(__name__)

_REQUEST_S = 10.0
_MOST_CONNECTIONS = 32
_BACKLOG = 256  # more than these at once wait here until they are sent away


class PortServer:
    """Answers the port API and keeps what it grants: through lost SSH masters, and past the end of this supervisor."""

    def __init__(self, drivers: Drivers, table_file: Path, tcp_driver: Driver) -> None:
        self._drivers = drivers
        self._table_file = table_file
        self._table = Table(tcp_driver)
        # What is known to listen; of an earlier supervisor's, QEMU's do.
        self._open: set[Binding] = set()
        self._changing = asyncio.Lock()
        self._connections = 0

    async def serve(self, path: Path) -> asyncio.Server:
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path, limit=api.MAX_HEAD_BYTES, backlog=_BACKLOG)
        path.chmod(0o600)
        return server

    def take_over(self) -> None:
        """Know what an earlier supervisor has granted; QEMU still listens for it."""
        try:
            self._table = Table.load(self._table_file.read_text())
        except (OSError, ValueError) as error:
            log.info("no forwards of an earlier supervisor: %s", error)
        for forward in self._table:
            self._open |= {binding for binding in self._table.bindings(forward) if binding.driver is Driver.SLIRP}

    def preload(self, forwards: Iterable[Forward]) -> None:
        """Know the user's own forwards before there is anything to carry them."""
        for forward in forwards:
            self._table.add(forward)
        self._save()

    def all(self) -> list[Forward]:
        """Every forward, by its endpoint."""
        return list(self._table)

    # What happens to the machine

    async def qemu_is_up(self) -> None:
        """A new QEMU carries nothing yet."""
        await self._open_all(Driver.SLIRP)

    async def master_is_up(self) -> None:
        """A new SSH master carries nothing yet."""
        await self._open_all(Driver.SSH)

    async def _open_all(self, driver: Driver) -> None:
        async with self._changing:
            self._open = {binding for binding in self._open if binding.driver is not driver}
            for forward in self._table:
                for binding in self._table.bindings(forward):
                    if binding.driver is driver:
                        try:
                            await self._listen(binding)
                        except MachineError as error:
                            log.log(logging.INFO if binding.optional else logging.ERROR, "%s", error)

    async def _listen(self, binding: Binding) -> None:
        if binding in self._open:
            return
        if reason := await asyncio.to_thread(why_not_free, binding.endpoint):
            raise MachineError(reason)
        try:
            await self._drivers.open(binding)
        except MachineError:
            await self._shut(binding)  # an answer that came too late may have left it open
            raise
        self._open.add(binding)

    def remove_sockets(self) -> None:
        """After the machine's end, of the user's forwards."""
        for binding in self._open:
            remove_socket(binding)

    async def guest_has_reset(self) -> None:
        """Its containers are gone, and publish their ports again when they start."""
        async with self._changing:
            for forward in self._table.of(Origin.PUBLISHED):
                await self._close(forward)

    # The API

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > _MOST_CONNECTIONS:
                writer.write(api.encode_response(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once"))
            else:
                async with asyncio.timeout(_REQUEST_S):
                    head = api.parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
                    request = api.parse_request(head, await reader.readexactly(head.length))
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
            self._connections -= 1
            with contextlib.suppress(OSError):
                await writer.drain()
                writer.close()

    async def _carry_out(self, request: api.Request) -> bytes:
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
            known = self._table.get(forward.endpoint)
            # A container that has died without saying so starts again, or the user's own forward serves it.
            repeated = known and known.guest == forward.guest and forward.origin is Origin.PUBLISHED
            if known and not repeated:
                raise MachineError(f"cannot publish {forward.endpoint}: this machine forwards it already")
            try:
                wanted = self._table.bindings(forward)
            except ValueError as error:
                raise MachineError(str(error)) from error
            before = set(self._open)
            try:
                for binding in wanted:
                    try:
                        await self._listen(binding)
                    except MachineError as error:
                        if not binding.optional:
                            raise
                        log.info("%s", error)
            except MachineError:
                for binding in self._open - before:
                    await self._shut(binding)
                raise
            if not known:
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
