"""A real QEMU with a machine's command line, for tests that need no guest."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from machine.model.arch import Arch
from machine.model.hardware import Hardware
from machine.model.record import GuestFacts
from machine.qemu import monitor
from machine.qemu.img import QemuImg
from machine.qemu.monitor import Monitor
from machine.qemu.plan import plan_launch
from machine.qemu.probe import find_qemu, probe_qemu
from machine.sockets import listens
from machine.store.paths import MachinePaths
from machine.supervisor.launch import make_console
from machine.this_host import current_host
from tests.support.builders import RELAY, make_launch_files, make_paths, make_record
from tests.support.disk_images import Images
from tests.support.waiting import wait_until

WAIT_S = 30


@contextlib.asynccontextmanager
async def running_qemu(base: Path, hardware: Hardware) -> AsyncIterator[Monitor]:
    """A QEMU with a machine's command line, whose firmware finds nothing to boot."""
    files = make_launch_files(base)
    qemu = probe_qemu(find_qemu(Arch.X86_64, current_host()))
    record = make_record(memory_mib=256, ssh_port=0, guest=GuestFacts(provisioned=True))
    plan = plan_launch(record, binary=qemu.path, hardware=hardware, relay=RELAY, firmware=None, files=files)
    files.qmp_socket.unlink(missing_ok=True)
    with subprocess.Popen(plan.argv, stderr=subprocess.PIPE) as process:
        try:
            await asyncio.to_thread(wait_until, lambda: listens(files.qmp_socket), timeout_s=WAIT_S)
            async with monitor.connected(files.qmp_socket, timeout_s=WAIT_S) as client:
                yield client
                await monitor.request_quit(client)
            process.wait(WAIT_S)
        finally:
            process.kill()


def prepared(base: Path, images: Images) -> MachinePaths:
    """Make what QEMU opens: a disk and a console."""
    files, paths = make_launch_files(base), make_paths(base)
    for path in (files.disk, files.qmp_socket):
        path.parent.mkdir(parents=True, exist_ok=True)
    QemuImg().create_overlay(files.disk, images.qcow2, 1)
    make_console(paths)
    return paths
