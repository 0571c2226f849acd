"""Ask QEMU about the devices that share folders."""

from __future__ import annotations

from machine.qemu import monitor
from machine.qemu.monitor import Monitor
from machine.qemu.plan import is_folder_id

# What QEMU writes before the address of a socket that the other side has closed.
_CLOSED = "disconnected:"
# A part of the name of 9p's device.
_NINEP = "virtio-9p"


async def plugged(client: Monitor) -> dict[str, str]:
    """Return the IDs of the devices that share folders, each with what QEMU calls the device.

    Raises:
        MachineError: QEMU does not answer.
    """
    children = await monitor.execute(client, "qom-list", {"path": "/machine/peripheral"})
    if not isinstance(children, list):
        return {}
    return {str(each["name"]): str(each["type"]) for each in children if is_folder_id(each["name"])}


async def plugged_tags(client: Monitor) -> set[str]:
    """Return the tags of the folders that have a device.

    Raises:
        MachineError: QEMU does not answer.
    """
    devices = await plugged(client)
    return {
        str(await _property(client, device, "mount_tag" if _NINEP in kind else "tag"))
        for device, kind in devices.items()
    }


async def backends(client: Monitor) -> dict[str, str]:
    """Return the IDs of the sockets to virtiofsd, each with what QEMU says of its state.

    Raises:
        MachineError: QEMU does not answer.
    """
    sockets = await monitor.execute(client, "query-chardev")
    if not isinstance(sockets, list):
        return {}
    return {str(each["label"]): str(each["filename"]) for each in sockets if is_folder_id(each["label"])}


async def tags_without_server(client: Monitor) -> set[str]:
    """Return the tags of the folders whose virtiofsd has ended.

    Raises:
        MachineError: QEMU does not answer.
    """
    closed = [device for device, state in (await backends(client)).items() if state.startswith(_CLOSED)]
    return {str(await _property(client, device, "tag")) for device in closed}


async def _property(client: Monitor, device: str, name: str) -> object:
    return await monitor.execute(client, "qom-get", {"path": f"/machine/peripheral/{device}", "property": name})
