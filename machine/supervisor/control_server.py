"""The server of the control socket, by which other commands reach the supervisor. The client is machine.control."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Protocol

from machine import control
from machine.control import Command
from machine.errors import MachineError
from machine.model.state import MachineState
from machine.sockets import has_hung_up, serve_unix
from machine.supervisor.progress import ProgressBroadcaster

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 10


class CommandHandler(Protocol):
    """Carries out the commands that the control server receives."""

    @property
    def state(self) -> MachineState: ...

    def stop(self, *, at_once: bool) -> None: ...

    def suspend(self) -> None:
        """Begin to suspend the machine.

        Raises:
            MachineError: the machine is in a state in which it cannot be suspended.
        """

    async def carry_out(self, command: Command, value: str) -> dict[str, object]:
        """Carry out a command other than STATUS, STOP, SUSPEND and QUIT, and return the answer.

        Raises:
            MachineError: the command is invalid, or fails.
        """


class ControlServer:
    """Receives commands on the control socket, has `handler` carry them out, and sends the answers.

    A client that has sent STOP, SUSPEND or QUIT gets the reports that `stopping` sends.
    """

    def __init__(self, handler: CommandHandler, *, stopping: ProgressBroadcaster) -> None:
        self._handler = handler
        self._stopping = stopping
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, path: Path) -> asyncio.Server:
        """Listen on a Unix socket at `path`. Replace a socket that an earlier supervisor has left there."""
        return await serve_unix(self._answer, path, limit=control.MAX_LINE_BYTES)

    async def flush(self) -> None:
        """Send the rest of the answers to all clients, and close the connections.

        A client that does not read its answer within a second loses it.
        """
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
            if not line:
                log.debug("control: a client only wanted to know whether anybody answers")
            elif has_hung_up(writer.get_extra_info("socket").fileno()):  # while the supervisor was stopped
                log.info("control: a client has gone before its command was carried out: %r", line)
            elif await self._carry_out(*_parse(line), writer):
                await writer.drain()
            else:
                await reader.read()  # until the client hangs up; its answer is written when the machine has ended
        except MachineError as error:
            writer.write(control.encode_error(error))
        except (OSError, ValueError, TimeoutError) as error:
            log.debug("a client of the control socket: %s", error)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _carry_out(self, command: Command, value: str, writer: asyncio.StreamWriter) -> bool:
        """Carry out a command. Return whether the whole answer has been written.

        STOP, SUSPEND and QUIT are answered by `stopping`, when the machine has stopped.
        """
        match command:
            case Command.STATUS:
                state = self._handler.state
                writer.write(control.encode({"ok": control.encode_state(state)}))
                return True
            case Command.STOP | Command.QUIT:
                self._stopping.add(writer.write)
                log.info("control: %s", command)
                self._handler.stop(at_once=command is Command.QUIT)
                return False
            case Command.SUSPEND:
                log.info("control: %s", command)
                self._handler.suspend()
                self._stopping.add(writer.write)
                return False
            case _:
                log.info("control: %s", f"{command} {value}".rstrip())
                writer.write(control.encode({"ok": await self._handler.carry_out(command, value)}))
                return True


def _parse(line: bytes) -> tuple[Command, str]:
    try:
        document = json.loads(line)
        return Command(document["command"]), str(document.get("value", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError("the supervisor does not support this command") from error
