"""Answer a guest's questions about names on a port of this host's loopback, over UDP and TCP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable, Sequence

from machine.resolver.answers import Missing, Question, read_question, write_answer

log = logging.getLogger(__name__)

LookUp = Callable[[str], Awaitable[Sequence[str] | Missing]]
"""Returns the addresses of a name, or why it has none."""

_LOOPBACK = "127.0.0.1"
_LENGTH = struct.Struct(">H")
_IDLE_S = 10.0
_MAX_TRIES = 20


class ResolverServer:
    """Listens on the same port for UDP and for TCP.

    Other users of this host can reach it, and learn nothing from it that getaddrinfo(3) does not tell them.
    """

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._datagrams: asyncio.DatagramTransport | None = None
        self._streams: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """Listen on a free port, and return the port.

        Raises:
            OSError: no port is free.
        """
        for tries_left in reversed(range(_MAX_TRIES)):
            self._streams = await asyncio.start_server(self._serve, _LOOPBACK, 0)
            port: int = self._streams.sockets[0].getsockname()[1]
            try:
                loop = asyncio.get_running_loop()
                self._datagrams, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._answer_datagram), local_addr=(_LOOPBACK, port)
                )
            except OSError:
                self._streams.close()
                if not tries_left:
                    raise
            else:
                return port
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self._streams:
            self._streams.close()
        if self._datagrams:
            self._datagrams.close()
        for task in self._answering:
            task.cancel()

    def _answer_datagram(self, data: bytes, sender: tuple[str, int]) -> None:
        task = asyncio.ensure_future(self._reply(data, sender))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _reply(self, data: bytes, sender: tuple[str, int]) -> None:
        question = read_question(data)
        if question and self._datagrams:
            answer = await self._answer(question, max_bytes=question.max_bytes)
            self._datagrams.sendto(answer, sender)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions on one connection, each after its length, until there are no more."""
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            while True:
                async with asyncio.timeout(_IDLE_S):
                    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                    data = await reader.readexactly(length)
                question = read_question(data)
                if question is None:
                    break
                answer = await self._answer(question)
                writer.write(_LENGTH.pack(len(answer)) + answer)
                await writer.drain()
        writer.close()

    async def _answer(self, question: Question, *, max_bytes: int = 0) -> bytes:
        """Return the answer to a question. A guest that gets none would ask again until it gives up."""
        try:
            found = await self._look_up(question.name) if question.wants_addresses else ()
            return write_answer(question, found, max_bytes=max_bytes)
        except Exception:  # the guest is told of it, and other questions are answered
            log.exception("%s: no answer can be given", question.name)
            return write_answer(question, Missing.FAILURE)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._on_datagram = on_datagram

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._on_datagram(data, addr)
