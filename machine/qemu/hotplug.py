"""Plug the devices that share folders into a running QEMU, and unplug them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.folders import Share
from machine.model.transport import Transport
from machine.qemu import folder_devices, monitor
from machine.qemu.boards import Board
from machine.qemu.monitor import Monitor
from machine.qemu.plan import folder_device, folder_id

log = logging.getLogger(__name__)

_POLL_S = 0.1
# How often a guest that has not let go of a device is asked again.
_ASK_EVERY_S = 5.0


async def plug_in(client: Monitor, board: Board, shares: Sequence[Share]) -> None:
    """Plug in the device of each folder. A virtiofsd must listen already for each folder that needs one.

    Raises:
        MachineError: QEMU rejects a device.
    """
    for number, share in enumerate(shares):
        if share.transport is Transport.VIRTIOFS:
            address = {"type": "unix", "data": {"path": str(share.socket)}}
            backend = {"type": "socket", "data": {"addr": address, "server": False}}
            await monitor.execute(client, "chardev-add", {"id": folder_id(number), "backend": backend})
        await monitor.execute(client, "device_add", {**folder_device(board, number, share)})


async def unplug(client: Monitor, deadline: Deadline) -> None:
    """Unplug all devices that share folders. The guest must have unmounted the folders, and must let go of the devices.

    Raises:
        DeadlineError: the guest does not let go of a device before the deadline.
        MachineError: QEMU does not answer, or rejects a command.
    """
    for device in sorted(await folder_devices.plugged(client)):
        await _unplug(client, device, deadline)
    for backend in sorted(await folder_devices.backends(client)):
        await _remove_backend(client, backend, deadline)


async def _remove_backend(client: Monitor, backend: str, deadline: Deadline) -> None:
    """Remove a device's socket to virtiofsd. It stays busy for a moment after the device has gone."""
    while True:
        try:
            await monitor.execute(client, "chardev-remove", {"id": backend})
        except MachineError:
            if deadline.passed:
                raise
            await asyncio.sleep(_POLL_S)
        else:
            return


async def _unplug(client: Monitor, device: str, deadline: Deadline) -> None:
    asked_at = float("-inf")
    now = asyncio.get_running_loop().time
    while device in await folder_devices.plugged(client):
        if deadline.passed:
            raise deadline.error()
        if now() - asked_at >= _ASK_EVERY_S:
            asked_at = now()
            await _ask_to_let_go(client, device)
        await asyncio.sleep(_POLL_S)


async def _ask_to_let_go(client: Monitor, device: str) -> None:
    try:
        await monitor.execute(client, "device_del", {"id": device})
    except MachineError as error:  # the guest is still at the first request, or the device has just gone
        log.info("%s", error.line)
