"""QEMU's side of QMP, as far as a supervisor needs it.

qemu.qmp has a server side too, but each of its servers serves one session: a supervisor wants another one when QEMU has
hung up, as a QEMU gives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

Answer = Callable[[str], object]
"""What QEMU returns for a command."""


class QmpServer:
    """Serves one session after another; `commands` are those that were executed."""

    def __init__(self, answer: Answer = lambda _: {}) -> None:
        self.commands: list[str] = []
        self.sessions = 0
        self.running = asyncio.Event()
        """Cleared while QEMU stands still, as when a signal has stopped it."""

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
    """A QEMU that listens on `socket`."""
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
    """What a client sends: JSON objects, with nothing between them."""
    received = ""
    while chunk := await reader.read(4096):
        received += chunk.decode()
        with contextlib.suppress(json.JSONDecodeError):
            while received:
                message, end = json.JSONDecoder().raw_decode(received)
                received = received[end:].lstrip()
                yield message
