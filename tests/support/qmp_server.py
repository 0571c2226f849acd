"""A fake QMP server for a supervisor.

It differs from that of qemu.qmp in serving several sessions, since a supervisor reconnects if QEMU hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

Answer = Callable[[str], object]
"""A function that returns QEMU's result of a command."""


class QmpServer:
    """A QMP server for one session at a time; `commands` are those executed so far."""

    def __init__(self, answer: Answer = lambda _: {}) -> None:
        self.commands: list[str] = []
        self.sessions = 0
        self.running = asyncio.Event()
        """Cleared to simulate a QEMU that was stopped by a signal."""

        self.running.set()
        self._answer = answer
        self._writer: asyncio.StreamWriter | None = None

    def emit(self, event: str) -> None:
        """Send an event to the client of the current session."""
        assert self._writer is not None
        _send(self._writer, {"event": event, "data": {}, "timestamp": {"seconds": 0, "microseconds": 0}})

    def hang_up(self) -> None:
        """End the current session, if there is one."""
        if self._writer:
            self._writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a session until its client hangs up."""
        self._writer = writer
        self.sessions += 1
        _send(writer, {"QMP": {"version": {}, "capabilities": []}})
        with contextlib.suppress(OSError):
            async for message in _messages(reader):
                self.commands.append(message["execute"])
                await self.running.wait()
                _send(writer, {"return": self._answer(message["execute"]), "id": message.get("id")})
        writer.close()


@contextlib.asynccontextmanager
async def serving_qmp(socket: Path, answer: Answer = lambda _: {}) -> AsyncIterator[QmpServer]:
    """Run a QMP server on `socket` during the block."""
    qmp = QmpServer(answer)
    async with await asyncio.start_unix_server(qmp.serve, socket):
        try:
            yield qmp
        finally:
            qmp.running.set()
            qmp.hang_up()


def _send(writer: asyncio.StreamWriter, message: dict[str, object]) -> None:
    writer.write(json.dumps(message).encode() + b"\r\n")


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Iterate over a client's messages, which are JSON objects without separators."""
    received = ""
    while chunk := await reader.read(4096):
        received += chunk.decode()
        with contextlib.suppress(json.JSONDecodeError):
            while received:
                message, end = json.JSONDecoder().raw_decode(received)
                received = received[end:].lstrip()
                yield message
