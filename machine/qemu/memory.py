"""Save the memory of a guest in a file, and load it again, by QEMU's migration."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors
from machine.qemu import monitor
from machine.qemu.monitor import Monitor

# The first QEMU that reads and writes files itself.
_FILE_VERSION = (8, 2)
# The first QEMU that saves the state of virtiofsd beside the memory.
_VIRTIOFSD_VERSION = (8, 2)
_POLL_S = 0.05
_DESCRIPTOR = "memory"
_UNLIMITED_BYTES_S = 2**40
_TYPE_SUFFIX = "-machine"


async def machine_type(client: Monitor) -> str:
    """Return QEMU's name for the version of its machine type, like `pc-q35-7.2`.

    Raises:
        MachineError: QEMU does not answer.
    """
    answer = await monitor.execute(client, "qom-get", {"path": "/machine", "property": "type"})
    return str(answer).removesuffix(_TYPE_SUFFIX)


async def version(client: Monitor) -> tuple[int, ...]:
    """Return the version of the running QEMU.

    Raises:
        MachineError: QEMU does not answer.
    """
    match await monitor.execute(client, "query-version"):
        case {"qemu": {"major": major, "minor": minor, "micro": micro}}:
            return int(major), int(minor), int(micro)
        case _:
            raise MachineError("QEMU does not tell its version")


async def obstacles(client: Monitor) -> list[str]:
    """Return QEMU's reasons why the memory cannot be saved, or an empty list if it can.

    Raises:
        MachineError: QEMU does not answer.
    """
    match await monitor.execute(client, "query-migrate"):
        case {"blocked-reasons": list(reasons)}:
            return [str(reason) for reason in reasons]
        case _:
            return []


async def can_keep_folders(client: Monitor) -> bool:
    """Return whether this QEMU can save the memory of a guest that has folders mounted by virtiofs.

    Raises:
        MachineError: QEMU does not answer.
    """
    return await version(client) >= _VIRTIOFSD_VERSION


async def save(client: Monitor, path: Path, deadline: Deadline) -> None:
    """Write the memory of a guest whose CPUs are stopped to a new file, and flush the file to the disk.

    Raises:
        DeadlineError: QEMU was not done before the deadline, and has been told to give up.
        MachineError: QEMU cannot write the memory. The file may be incomplete.
    """
    await monitor.execute(client, "migrate-set-parameters", {"max-bandwidth": _UNLIMITED_BYTES_S})
    with _opened(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as descriptor:
        await monitor.execute(client, "migrate", {"uri": await _uri(client, path, descriptor)})
        await _await_end(client, deadline)
        with disk_errors(path):
            await asyncio.to_thread(os.fsync, descriptor)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    with disk_errors(path):
        descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_PRIVATE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _uri(client: Monitor, path: Path, descriptor: int) -> str:
    """Return the URI of a file for QEMU. A QEMU that cannot open the file itself is sent the descriptor."""
    if await version(client) >= _FILE_VERSION:
        return f"file:{os.fspath(path)}"
    client.send_fd_scm(descriptor)
    await monitor.execute(client, "getfd", {"fdname": _DESCRIPTOR})
    return f"fd:{_DESCRIPTOR}"


async def _await_end(client: Monitor, deadline: Deadline) -> None:
    while True:
        match await monitor.execute(client, "query-migrate"):
            case {"status": "completed"}:
                return
            case {"status": "failed", "error-desc": reason}:
                raise MachineError(f"QEMU cannot save the memory: {reason}")
            case {"status": "failed" | "cancelled"}:
                raise MachineError("QEMU cannot save the memory, and gives no reason")
            case _:
                pass
        if deadline.passed:
            await monitor.execute(client, "migrate_cancel")
            raise deadline.error()
        await asyncio.sleep(_POLL_S)


async def load(client: Monitor, path: Path) -> None:
    """Load a guest's memory into a QEMU that was started to wait for it. The guest's CPUs stay stopped.

    A QEMU that cannot load the memory ends, and closes the connection. Its last message says why.

    Raises:
        MachineError: the file cannot be opened, or QEMU does not answer, for example because it has ended.
    """
    with _opened(path, os.O_RDONLY) as descriptor:
        await monitor.execute(client, "migrate-incoming", {"uri": await _uri(client, path, descriptor)})
        while await monitor.query_status(client) == monitor.STATUS_LOADING:
            await asyncio.sleep(_POLL_S)
