"""QMP, by the core of qemu.qmp. Two sockets: the supervisor's own and one for everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from qemu.qmp import ConnectError, ExecInterruptedError, QMPClient, QMPError

from machine.errors import MachineError

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def connected(socket: Path, *, timeout_s: float) -> AsyncIterator[QMPClient]:
    """A QMP client that is past the greeting.

    Raises:
        MachineError: nobody greets on that socket in time.
    """
    client = QMPClient("machine")
    try:
        async with asyncio.timeout(timeout_s):
            await client.connect(str(socket))
    except (ConnectError, OSError, TimeoutError) as error:
        raise MachineError(f"QEMU does not answer on {socket}: {error}") from error
    try:
        yield client
    finally:
        # The server's hanging up is how a session with a machine that ends does end.
        with contextlib.suppress(EOFError, OSError, QMPError):
            await client.disconnect()


async def execute(
    client: QMPClient, command: str, arguments: dict[str, object] | None = None, *, timeout_s: float = 10
) -> object:
    """Run one QMP command.

    Raises:
        MachineError: QEMU refuses it, hangs up or does not answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await client.execute(command, arguments)
    except TimeoutError as error:
        raise MachineError(f"QEMU does not answer: {command} took longer than {timeout_s:.0f} s") from error
    except (QMPError, EOFError, OSError) as error:
        raise MachineError(f"QEMU did not carry out {command}: {type(error).__name__} {error}") from error


async def human(client: QMPClient | None, line: str) -> str:
    """Run one line of the human monitor and return what it prints.

    Raises:
        MachineError: QEMU does not answer, or no session with it is open.
    """
    if client is None:
        raise MachineError("QEMU's monitor is not open")
    return str(await execute(client, "human-monitor-command", {"command-line": line}))


async def request_quit(client: QMPClient) -> None:
    """Ask QEMU to end now; it may hang up before it answers."""
    with contextlib.suppress(MachineError, ExecInterruptedError):
        await execute(client, "quit")
