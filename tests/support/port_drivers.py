"""The drivers of forwards with a real QEMU, for tests that need no guest."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from machine.model.ports import Driver, Endpoint, Protocol
from machine.ports.drivers import Drivers
from machine.qemu import monitor
from tests.support.waiting import WAIT_S, wait_until


def loopback(port: int, address: str = "127.0.0.1", kind: str = "tcp") -> Endpoint:
    return Endpoint(protocol=Protocol(kind), address=address, port=port)


@contextlib.asynccontextmanager
async def qemu_drivers(directory: Path, ssh_port: int) -> AsyncIterator[tuple[Drivers, int]]:
    """Run a QEMU without a guest, which listens on a port for SSH from its start; yields its drivers and its pid."""
    qmp = directory / "qmp.sock"
    argv = (
        "qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults",
        "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
        "-qmp", f"unix:{qmp},server=on,wait=off",
    )  # fmt: skip
    with subprocess.Popen(argv) as qemu:
        try:
            wait_until(qmp.exists, "QEMU")
            async with monitor.connected(qmp, timeout_s=WAIT_S) as client:
                yield (
                    Drivers(
                        monitor=lambda line: monitor.human_command(client, line),
                        netdev="net",
                        ssh=lambda *_: ["false"],
                        pid=lambda _: qemu.pid,
                        standing={Driver.SLIRP: [loopback(ssh_port)]},
                    ),
                    qemu.pid,
                )
        finally:
            qemu.kill()


async def no_monitor(line: str) -> str:
    raise AssertionError(line)
