"""Ask QEMU about the devices that share folders."""

from __future__ import annotations

from qemu.qmp import QMPClient

from machine.qemu import monitor
from machine.qemu.plan import is_folder_id

# What QEMU writes before the address of a socket that the other side has closed.
_CLOSED = "disconnected:"


async def tags_without_server(client: QMPClient) -> set[str]:
    """Return the tags of the folders whose virtiofsd has ended.

    Raises:
        MachineError: QEMU does not answer.
    """
    sockets = await monitor.execute(client, "query-chardev")
    assert isinstance(sockets, list)
    closed = [
        entry["label"]
        for entry in sockets
        if is_folder_id(entry["label"]) and str(entry["filename"]).startswith(_CLOSED)
    ]
    return {str(await _property(client, device, "tag")) for device in closed}


async def _property(client: QMPClient, device: str, name: str) -> object:
    return await monitor.execute(client, "qom-get", {"path": f"/machine/peripheral/{device}", "property": name})
