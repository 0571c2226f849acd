"""Talk to QEMU by QMP. QEMU listens on two sockets, one for the supervisor and one for other commands."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from qemu.qmp import ConnectError, ExecInterruptedError, QMPClient, QMPError

from machine.errors import MachineError, reason_of

log = logging.getLogger(__name__)

STATUS_RUNNING = "running"
"""The status of a guest whose CPUs run."""

STATUS_PAUSED = "paused"
"""The status of a guest whose CPUs were stopped by a command."""

STATUS_DISK_FULL = "io-error"
"""The status of a guest whose CPUs have stopped because the host's disk is full."""

STATUS_LOADING = "inmigrate"
"""The status of a guest whose memory QEMU is loading."""

STATUS_SAVED = "postmigrate"
"""The status of a guest whose memory has been saved, and whose CPUs are stopped since."""


_ANSWER_S = 10.0


class Monitor(QMPClient):
    """A session with QEMU's monitor, by QMP. QEMU may take `patience` times as long as usual to answer."""

    def __init__(self, *, patience: int = 1) -> None:
        super().__init__("machine")
        self.patience = patience


@contextlib.asynccontextmanager
async def connected(socket: Path, *, timeout_s: float, patience: int = 1) -> AsyncIterator[Monitor]:
    """Connect to QEMU, and disconnect at the end of the block. `patience` multiplies the time for QEMU's answers.

    Raises:
        MachineError: QEMU does not answer in time.
    """
    client = Monitor(patience=patience)
    try:
        async with asyncio.timeout(timeout_s * patience):
            await client.connect(str(socket))
    except (ConnectError, OSError, TimeoutError) as error:
        raise MachineError(f"QEMU does not answer on {socket}: {reason_of(error)}") from error
    try:
        yield client
    finally:
        # When the machine ends, QEMU closes the connection first.
        with contextlib.suppress(EOFError, OSError, QMPError):
            await client.disconnect()


async def execute(
    client: Monitor, command: str, arguments: dict[str, object] | None = None, *, timeout_s: float = _ANSWER_S
) -> object:
    """Run one QMP command. The session's patience multiplies `timeout_s`.

    Raises:
        MachineError: QEMU rejects the command, closes the connection or does not answer in time.
    """
    timeout_s *= client.patience
    try:
        async with asyncio.timeout(timeout_s):
            return await client.execute(command, arguments)
    except TimeoutError as error:
        raise MachineError(f"QEMU did not answer {command} within {timeout_s:.0f} s") from error
    except (QMPError, EOFError, OSError) as error:
        raise MachineError(f"QEMU failed to execute {command}: {reason_of(error)}") from error


async def human_command(client: Monitor, line: str) -> str:
    """Run a command line in QEMU's human monitor, and return the command's output.

    Raises:
        MachineError: QEMU does not answer.
    """
    return str(await execute(client, "human-monitor-command", {"command-line": line}))


async def query_status(client: Monitor) -> str:
    """Return what QEMU calls the status of the guest's CPUs, such as `running`.

    Raises:
        MachineError: QEMU does not answer.
    """
    answer = await execute(client, "query-status")
    return str(answer["status"]) if isinstance(answer, dict) else ""


async def request_quit(client: Monitor) -> None:
    """Tell QEMU to quit. QEMU may close the connection without an answer."""
    with contextlib.suppress(MachineError, ExecInterruptedError):
        await execute(client, "quit")
