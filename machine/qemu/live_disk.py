"""Change the disk of a guest while its QEMU runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from machine.qemu import monitor
from machine.qemu.plan import DISK

_CONNECT_S = 5.0
_DELETE_S = 300.0


async def delete_snapshots(socket: Path, tags: Sequence[str]) -> None:
    """Delete snapshots from the disk of the QEMU that listens on this socket.

    Raises:
        MachineError: QEMU does not answer, or cannot delete a snapshot.
    """
    async with monitor.connected(socket, timeout_s=_CONNECT_S) as client:
        for tag in tags:
            arguments: dict[str, object] = {"device": DISK, "name": tag}
            await monitor.execute(client, "blockdev-snapshot-delete-internal-sync", arguments, timeout_s=_DELETE_S)
