"""Carry the connections of clients that have waited until a machine was awake."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable

from machine.deadline import Deadline
from machine.model.ports import SocketPath
from machine.supervisor.doors import Visitor

log = logging.getLogger(__name__)

# The supervisor may still be opening the last of many forwards.
_CONNECT_S = 30.0
_RETRY_S = 0.05
_CHUNK_BYTES = 64 * 1024


async def carry_all(visitors: Iterable[Visitor]) -> None:
    """Connect each client to the machine, and return when all of the connections have ended."""
    async with asyncio.TaskGroup() as group:
        for visitor in visitors:
            group.create_task(_carry(visitor))


async def _carry(visitor: Visitor) -> None:
    """Carry one connection to the place to which the client has connected, and where the machine listens now."""
    with visitor.connection as connection, contextlib.ExitStack() as stack:
        try:
            upstream = stack.enter_context(await _connected(visitor))
            await _copy_both_ways(connection, upstream)
        except OSError as error:
            log.info("a client of %s: %s", visitor.place, error)


async def _connected(visitor: Visitor) -> socket.socket:
    """Connect to the machine.

    Raises:
        OSError: the machine does not listen.
    """
    # A listener on every address has no address to connect to, but the client has chosen one.
    place = visitor.place
    address = place.path if isinstance(place, SocketPath) else visitor.connection.getsockname()
    deadline = Deadline.after(_CONNECT_S, "the machine to listen")
    while True:
        upstream = socket.socket(visitor.connection.family, socket.SOCK_STREAM)
        upstream.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(upstream, address)
        except OSError:
            upstream.close()
            if deadline.passed:
                raise
            await asyncio.sleep(_RETRY_S)
        else:
            return upstream


async def _copy_both_ways(one: socket.socket, other: socket.socket) -> None:
    """Copy until both sides have nothing more to say.

    Raises:
        OSError: one of the connections has failed.
    """
    one.setblocking(False)
    copies = [asyncio.ensure_future(_copy(one, other)), asyncio.ensure_future(_copy(other, one))]
    try:
        await asyncio.gather(*copies)
    finally:
        for copy in copies:
            copy.cancel()


async def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the source has nothing more to say, and tell the target so.

    Raises:
        OSError: one of the connections has failed.
    """
    loop = asyncio.get_running_loop()
    while chunk := await loop.sock_recv(source, _CHUNK_BYTES):
        await loop.sock_sendall(target, chunk)
    with contextlib.suppress(OSError):  # the target has hung up
        target.shutdown(socket.SHUT_WR)
