"""The server's side of machine.control: the socket by which every other command reaches the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from machine import control
from machine.control import Command
from machine.errors import MachineError
from machine.model.state import MachineState
from machine.supervisor.progress import Outlet

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 10


class ControlServer:
    """Answers STATUS itself; STOP and QUIT go to `on_stop`, and their senders hear the end by `stopping`."""

    def __init__(
        self,
        *,
        state: Callable[[], MachineState],
        on_stop: Callable[[bool], None],
        on_port: Callable[[Command, str], Awaitable[dict[str, Any]]],
        on_mount: Callable[[Command, str], Awaitable[dict[str, Any]]],
        stopping: Outlet,
    ) -> None:
        self._state = state
        self._on_port = on_port
        self._on_mount = on_mount
        self._on_stop = on_stop
        self._stopping = stopping
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, path: Path) -> asyncio.Server:
        """Listen on `path`, in place of a socket that an earlier supervisor left."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path, limit=control.MAX_LINE_BYTES)
        path.chmod(0o600)
        return server

    async def flush(self) -> None:
        """Let every client have the last line before this process ends."""
        for writer in list(self._writers):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                line = await reader.readline()
            if await self._carry_out(*_parse(line), writer):
                await writer.drain()
            else:
                await reader.read()  # until the client hangs up: its answer is written when the machine has ended
        except MachineError as error:
            writer.write(control.encode_error(error))
        except (OSError, ValueError, TimeoutError) as error:
            log.debug("a client of the control socket: %s", error)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _carry_out(self, command: Command, value: str, writer: asyncio.StreamWriter) -> bool:
        """Returns whether the answer is complete."""
        log.debug("control: %s", command)
        match command:
            case Command.STATUS:
                state = self._state()
                writer.write(control.encode({"ok": {"state": state.state, "reason": state.reason}}))
                return True
            case Command.STOP | Command.QUIT:
                self._stopping.add(writer.write)
                self._on_stop(command is Command.QUIT)
                return False
            case Command.PORT_ADD | Command.PORT_REMOVE | Command.PORT_LIST:
                writer.write(control.encode({"ok": await self._on_port(command, value)}))
                return True
            case Command.MOUNT_ADD | Command.MOUNT_REMOVE | Command.MOUNT_LIST:
                writer.write(control.encode({"ok": await self._on_mount(command, value)}))
                return True


def _parse(line: bytes) -> tuple[Command, str]:
    try:
        document = json.loads(line)
        return Command(document["command"]), str(document.get("value", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError("the supervisor does not know this command") from error
