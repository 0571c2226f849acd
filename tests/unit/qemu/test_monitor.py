"""Sessions with QEMU's monitor, with a QEMU that the test plays and that takes its time to answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.ops.shared import shutdown
from machine.qemu import monitor
from tests.support.builders import make_roots
from tests.support.qmp_server import QmpServer, serving_qmp

USUAL_S = 0.05
LATE_S = 0.5
PATIENCE = 100


@contextlib.asynccontextmanager
async def late(qmp: QmpServer) -> AsyncIterator[None]:
    """Have QEMU answer late what it is asked during the block."""
    qmp.running.clear()
    asyncio.get_running_loop().call_later(LATE_S, qmp.running.set)
    yield
    qmp.running.set()


def test_patience_lengthens_the_time_for_each_answer(short_path: Path) -> None:
    async def ask(patience: int) -> object:
        socket = short_path / f"{patience}.sock"
        async with (
            serving_qmp(socket, lambda _: "answer") as qmp,
            monitor.connected(socket, timeout_s=5, patience=patience) as client,
            late(qmp),
        ):
            return await monitor.execute(client, "query-status", timeout_s=USUAL_S)

    assert asyncio.run(ask(PATIENCE)) == "answer"
    with pytest.raises(MachineError, match="QEMU did not answer query-status within 0 s"):
        asyncio.run(ask(1))


@pytest.mark.parametrize("patience", [PATIENCE, 1])
def test_stop_without_a_supervisor_waits_for_qemus_greeting_with_patience(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    monkeypatch.setattr(shutdown, "_GREETING_S", USUAL_S)
    paths = make_roots(short_path).machine("box")
    paths.qmp_tools_socket.parent.mkdir(parents=True)

    async def connect() -> int | None:
        async with serving_qmp(paths.qmp_tools_socket) as qmp, late(qmp), contextlib.AsyncExitStack() as stack:
            client = await shutdown._connect(paths, stack, patience)
            return client.patience if client else None

    assert asyncio.run(connect()) == (patience if patience > 1 else None)
