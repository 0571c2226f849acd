"""`machine inspect`: return everything that is known about a machine as a document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from machine.model.config import MachineConfig
from machine.model.record import MachineRecord
from machine.model.state import MachineState, State
from machine.ops.list import JSON_SCHEMA
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ops.shared.times import NEVER, uptime_s
from machine.qemu.boards import BOARDS
from machine.store import records
from machine.store.names import snapshot_names
from machine.store.paths import MachinePaths, identity_of


def inspect(name: str, context: Context) -> dict[str, Any]:
    """Return a document with Podman's fields under Podman's names, and with our own fields under `Machine`.

    Times in the document are datetimes.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine's record is damaged.
    """
    record = records.load(context.roots, name)
    paths = context.roots.machine(name)
    return document(record, paths, machine_state(paths))


def document(record: MachineRecord, paths: MachinePaths, state: MachineState) -> dict[str, Any]:
    config, guest = record.config, record.guest
    preferred = paths.api_socket(rootful=config.rootful)
    return {
        "ConfigDir": {"Path": str(paths.directory)},
        "ConnectionInfo": {"PodmanSocket": {"Path": str(preferred)}, "PodmanPipe": None},
        "Created": config.created,
        "LastUp": guest.last_up or NEVER,
        "Name": config.name,
        "Resources": {
            "CPUs": config.resources.cpus,
            "DiskSize": config.resources.disk_gib,
            "Memory": config.resources.memory_mib,
            "USBs": [usb_document(text) for text in config.usbs],
        },
        "SSHConfig": {
            "IdentityPath": str(identity_of(config, paths)),
            "Port": config.ssh_port,
            "RemoteUsername": config.username,
        },
        "State": podman_state(state.state),
        "UserModeNetworking": True,
        "Rootful": config.rootful,
        "Rosetta": False,
        "Machine": _own_fields(record, paths, state),
    }


def _own_fields(record: MachineRecord, paths: MachinePaths, state: MachineState) -> dict[str, Any]:
    config, guest = record.config, record.guest
    return {
        "Schema": JSON_SCHEMA,
        "State": state.state,
        "Reason": state.reason or "",
        "Arch": config.arch,
        "Accelerator": config.accelerator,
        "Uptime": uptime_s(guest.last_up, state.state, datetime.now(UTC)),
        "Provider": config.provider,
        "Host": _host(config),
        "Console": "" if config.remote else BOARDS[config.arch].console,
        "Image": {
            "Reference": config.image.reference,
            "Stream": config.image.stream or "",
            "Release": config.image.release or "",
            "Location": config.image.location or "",
            "Digest": f"sha256:{config.image.digest}" if config.image.digest else "",
            "Verified": config.image.verified,
            "Signer": config.image.signer or "",
        },
        "Sockets": {"Rootless": str(paths.podman_socket), "Rootful": str(paths.podman_root_socket)},
        "Logs": {"Serial": str(paths.serial_log), "Supervisor": str(paths.supervisor_log)},
        "Mounts": [
            {"Source": folder.source, "Target": folder.target, "ReadOnly": folder.read_only}
            for folder in config.folders
        ],
        "Snapshots": snapshot_names(paths),
        "VolumeDriver": config.volume_driver,
        "MountInotify": config.mount_inotify,
        "IdleSuspend": config.idle_suspend,
        "Uid": config.uid,
        "Timezone": config.timezone,
        "Provisioning": config.provisioning,
        "Provisioned": guest.provisioned,
        "Protected": config.protected,
        "Hostname": config.first_boot.hostname or "",
        "ImportNativeCA": config.native_ca,
        "Labels": dict(config.labels),
        "MachinesFile": config.machines_file or "",
    }


def _host(config: MachineConfig) -> dict[str, Any] | None:
    """Return where a host over SSH is, and how it is reached. Return None for a virtual machine."""
    if config.remote is None:
        return None
    return {
        "Address": config.remote.address,
        "Port": config.ssh_port,
        "ProxyCommand": config.remote.proxy_command or "",
        "RootAccess": config.remote.root_access,
    }


def usb_document(text: str) -> dict[str, Any]:
    """Return a USB device as Podman describes it."""
    from machine.model.usb import parse_usb

    device = parse_usb(text)
    return {
        "Bus": str(device.bus or ""),
        "DevNumber": str(device.devnum or ""),
        "Vendor": device.vendor,
        "Product": device.product,
    }


def podman_state(state: State) -> str:
    """Translate a state into the closest of Podman's four states."""
    match state:
        case State.STOPPED | State.STARTING | State.RUNNING:
            return state.value
        case State.DEGRADED | State.STOPPING:
            return State.RUNNING.value
        case State.PAUSED | State.SUSPENDED:
            return "unknown"
