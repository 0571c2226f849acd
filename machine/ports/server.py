"""The server of the port API, by which Podman in the guest publishes ports.

Requests arrive on a Unix socket, each through a relay process that QEMU's guestfwd starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus
from pathlib import Path

from machine.errors import MachineError
from machine.ports import api
from machine.ports.published import PublishedPorts
from machine.sockets import serve_unix

log = logging.getLogger(__name__)

_REQUEST_S = 10.0
_MAX_REQUESTS = 256  # requests that wait, as they are carried out one after another
_MAX_SILENT = 64
_BACKLOG = 256  # further connections wait in the kernel


class PortServer:
    """Receives requests of the port API, and has `ports` carry them out."""

    def __init__(self, ports: PublishedPorts) -> None:
        self._ports = ports
        # Clients that have not sent their whole request yet, the one that has waited longest first.
        self._silent: dict[asyncio.StreamWriter, None] = {}
        self._requests = 0

    async def serve(self, path: Path) -> asyncio.Server:
        """Listen on a Unix socket at `path`. Replace a socket that an earlier supervisor has left there."""
        return await serve_unix(self._answer, path, limit=api.MAX_HEAD_BYTES, backlog=_BACKLOG)

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
            log.debug("port API: a client did not finish its request: %s", error)
        finally:
            with contextlib.suppress(OSError):
                await writer.drain()
                writer.close()

    async def _read_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> api.Request:
        """Read a request. If too many clients are silent, disconnect the client that has been silent longest."""
        if len(self._silent) >= _MAX_SILENT:
            longest = next(iter(self._silent))
            del self._silent[longest]  # now, as its own task may run only after more clients have connected
            longest.transport.abort()
        self._silent[writer] = None
        try:
            async with asyncio.timeout(_REQUEST_S):
                head = api.parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
                return api.parse_request(head, await reader.readexactly(head.length))
        finally:
            self._silent.pop(writer, None)

    async def _carry_out(self, request: api.Request) -> bytes:
        if self._requests >= _MAX_REQUESTS:
            raise api.RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once")
        self._requests += 1
        try:
            match request:
                case api.Expose(endpoint=endpoint, guest=guest):
                    await self._ports.expose(endpoint, guest)
                case api.Unexpose(endpoint=endpoint):
                    await self._ports.unexpose(endpoint)
                case api.ListAll():
                    published = api.encode_forwards(self._ports.all())
                    return api.encode_response(HTTPStatus.OK, published, kind="application/json")
        finally:
            self._requests -= 1
        return api.encode_response(HTTPStatus.OK)
