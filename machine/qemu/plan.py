"""Make QEMU's command line from a machine's record, the acceleration and file names (pure)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from machine.model import network as network_values
from machine.model.config import MachineConfig, Provisioning
from machine.model.folders import Share
from machine.model.hardware import Hardware
from machine.model.host import Accelerator
from machine.model.record import MachineRecord
from machine.model.transport import Transport
from machine.model.usb import parse_usb
from machine.qemu.boards import BOARDS, Board, Bus, ConfigSource
from machine.qemu.firmware import FirmwareFiles

READY_PORT = "org.boot2podman.ready"
IGNITION_JOURNAL_PORT = "com.coreos.ignition.journal"
IGNITION_KEY = "opt/com.coreos/config"
IGNITION_SERIAL = "ignition"
DISK = "disk"
"""The name of the guest's disk in QEMU."""

_MEMORY = "memory"
_FOLDER = "folder"
# How many requests may wait for virtiofsd; QEMU's default is 128.
_VIRTIOFS_QUEUE = 1024


@dataclass(frozen=True, kw_only=True)
class LaunchFiles:
    """The paths of the files and sockets that QEMU opens or makes."""

    disk: Path
    ignition: Path
    rekey_table: Path
    """The SMBIOS table that rekeys the guest of a clone."""

    seed: Path
    efi_vars: Path
    """The machine's UEFI variables. Only boards with UEFI firmware use this file."""

    console: Path
    """The serial console's two files have this name, with the suffixes `.in` and `.out`."""

    ignition_journal: Path
    ready_socket: Path
    ports_socket: Path
    qmp_socket: Path
    qmp_tools_socket: Path


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """The whole command line by which QEMU is started."""

    argv: tuple[str, ...]
    accelerator: Accelerator


def escape(value: str) -> str:
    """Escape a value for QEMU's `key=value,…` syntax, in which a comma is doubled."""
    return value.replace(",", ",,")


def option(*flags: str, **values: str | int | os.PathLike[str]) -> str:
    """Return the argument of an option. For example, `option("socket", id="qmp")` returns `socket,id=qmp`."""
    pairs = (f"{key.rstrip('_')}={escape(os.fspath(value) if isinstance(value, os.PathLike) else str(value))}"
             for key, value in values.items())  # fmt: skip
    return ",".join((*flags, *pairs))


def plan_launch(
    record: MachineRecord,
    *,
    binary: str,
    hardware: Hardware,
    firmware: FirmwareFiles | None,
    relay: Sequence[str],
    files: LaunchFiles,
    shares: Sequence[Share] = (),
) -> LaunchPlan:
    """Make the command line that boots a machine or, if its `hardware` has been suspended, waits for its memory.

    `relay` is the command that passes a request of the guest on to the socket of the port API. The socket's path is the
    last argument of that command. `shares` are the folders that QEMU shares by devices.

    The provisioning config is passed to the guest only until its first boot has completed, because the config contains
    the guest's private host key, and root in the guest could read it.

    A resumed guest has no devices for folders yet, unless it has kept them mounted. QEMU does not listen on its SSH
    port, and its CPUs are stopped. When QEMU has loaded the memory, the devices can be plugged in (see hotplug), the
    port opened, and the CPUs started.
    """
    config = record.config
    board = BOARDS[config.arch]
    argv = [
        binary,
        "-name", option(guest=f"machine-{config.name}"),
        "-nodefaults", "-no-user-config",
        "-display", "none",
        *_computer(config, board, hardware),
        *(_uefi(firmware, files) if firmware else []),
        *_disk(board, files),
        *_network(config, board, relay, files, opens_ssh_port=not hardware.is_suspended),
        *_ports(board, files),
        *_monitors(files),
        *_usb(config),
        *(["-smbios", option(file=files.rekey_table)] if hardware.rekey and not hardware.is_suspended else []),
        *_folders(board, hardware, shares),
        # Last, so that no other device moves on the bus when this one is left out.
        *(_provisioning(config, board, files) if hardware.first_boot else []),
        *(["-S", "-incoming", "defer"] if hardware.is_suspended else []),
    ]  # fmt: skip
    return LaunchPlan(argv=tuple(argv), accelerator=hardware.accelerator)


def _computer(config: MachineConfig, board: Board, hardware: Hardware) -> list[str]:
    # One thread per virtual CPU, which is not QEMU's default for all architectures.
    accel = "tcg,thread=multi" if hardware.accelerator is Accelerator.TCG else hardware.accelerator.value
    # virtiofsd accesses the guest's memory itself.
    shared = hardware.shared_memory
    size = f"{config.resources.memory_mib}M"
    machine_type, comma, options = board.machine.partition(",")
    machine = (hardware.machine_type or machine_type) + comma + options
    return [
        *(["-object", option("memory-backend-memfd", id=_MEMORY, size=size, share="on")] if shared else []),
        "-machine", machine + (f",memory-backend={_MEMORY}" if shared else ""),
        "-accel", accel,
        "-cpu", hardware.cpu,
        "-smp", str(config.resources.cpus),
        "-m", size,
        "-device", board.device("rng"),
        # Returns memory that is free in the guest to the host, if the host runs Linux.
        "-device", f"{board.device('balloon')},free-page-reporting=on",
        *(["-device", "vmgenid,guid=auto"] if board.has_generation_id else []),
    ]  # fmt: skip


def _uefi(firmware: FirmwareFiles, files: LaunchFiles) -> list[str]:
    return [
        "-drive", option(if_="pflash", unit=0, format=firmware.code_format, readonly="on", file=firmware.code),
        "-drive", option(if_="pflash", unit=1, format="raw", file=files.efi_vars),
    ]  # fmt: skip


def _disk(board: Board, files: LaunchFiles) -> list[str]:
    return [
        "-drive", option(if_="none", id=DISK, format="qcow2", discard="unmap", file=files.disk),
        # With a boot index, UEFI does not try the network first.
        "-device", option(board.device("blk"), drive=DISK, bootindex=1),
    ]  # fmt: skip


def _provisioning(config: MachineConfig, board: Board, files: LaunchFiles) -> list[str]:
    match config.provisioning:
        case Provisioning.IGNITION:
            return _ignition(board, files)
        case Provisioning.CLOUD_INIT:
            return [
                "-drive", option(if_="none", id="seed", format="raw", readonly="on", file=files.seed),
                "-device", option(board.device("blk"), drive="seed"),
            ]  # fmt: skip
        case _:
            assert_never(config.provisioning)


def _ignition(board: Board, files: LaunchFiles) -> list[str]:
    match board.config_source:
        case ConfigSource.FW_CFG:
            return ["-fw_cfg", option(name=IGNITION_KEY, file=files.ignition)]
        case ConfigSource.DISK:
            return [
                "-drive", option(if_="none", id="ignition", format="raw", readonly="on", file=files.ignition),
                "-device", option(board.device("blk"), drive="ignition", serial=IGNITION_SERIAL),
            ]  # fmt: skip
        case _:
            assert_never(board.config_source)


def _network(
    config: MachineConfig, board: Board, relay: Sequence[str], files: LaunchFiles, *, opens_ssh_port: bool
) -> list[str]:
    command = shlex.join([*relay, os.fspath(files.ports_socket)])
    network = {
        "net": network_values.NET,
        "host": network_values.HOST,
        "dns": network_values.DNS,
        "dhcpstart": network_values.GUEST,
        **({"hostfwd": f"tcp:127.0.0.1:{config.ssh_port}-:22"} if opens_ssh_port else {}),
        "guestfwd": f"tcp:{network_values.GATEWAY}:80-cmd:{command}",
    }
    # No option ROM: nothing boots from the network.
    rom = {"romfile": ""} if board.bus is Bus.PCI else {}
    return [
        "-netdev", option("user", id=network_values.NETDEV, **network),
        "-device", option(board.device("net"), netdev=network_values.NETDEV, mac=config.mac, **rom),
    ]  # fmt: skip


def _ports(board: Board, files: LaunchFiles) -> list[str]:
    """Return options for the serial console, and for the named ports by which the guest talks to the host."""
    return [
        # Reads `console`.in, a FIFO, and writes `console`.out, a link to the log. Unlike a socket with a `logfile` and
        # a slow client, a file never makes the guest wait, and never loses or doubles output.
        "-chardev", option("pipe", id="serial", path=files.console),
        "-serial", "chardev:serial",
        "-device", board.device("serial"),
        "-chardev", option("socket", id="ready", path=files.ready_socket, server="on", wait="off"),
        "-device", option("virtserialport", chardev="ready", name=READY_PORT),
        "-chardev", option("file", id="journal", path=files.ignition_journal),
        "-device", option("virtserialport", chardev="journal", name=IGNITION_JOURNAL_PORT),
    ]  # fmt: skip


def _usb(config: MachineConfig) -> list[str]:
    """Return options for the host's USB devices.

    If a device is given by vendor and is missing, QEMU waits for it. If one is given by bus and is missing, QEMU fails.
    """
    if not config.usbs:
        return []
    words = ["-device", option("qemu-xhci", id="usb")]
    for device in map(parse_usb, config.usbs):
        place = {"hostbus": device.bus, "hostaddr": device.devnum}
        kind = {"vendorid": f"0x{device.vendor:04x}", "productid": f"0x{device.product:04x}"}
        words += ["-device", option("usb-host", bus="usb.0", **(place if device.bus else kind))]
    return words


def _folders(board: Board, hardware: Hardware, shares: Sequence[Share]) -> list[str]:
    """Return options for the slots, and for the devices of the folders, unless these are plugged in later."""
    words = []
    if board.needs_root_ports:
        for number in range(hardware.folder_slots):
            words += ["-device", option("pcie-root-port", id=slot_id(number), chassis=number + 1, slot=number + 1)]
    for number, share in enumerate(shares):
        words += _backend(number, share, hardware)
        if hardware.starts_with_folders:
            words += ["-device", option(**folder_device(board, number, share))]
    return words


def _backend(number: int, share: Share, hardware: Hardware) -> list[str]:
    folder = share.folder
    if share.transport is Transport.VIRTIOFS:
        if not hardware.starts_with_folders:
            return []
        return ["-chardev", option("socket", id=folder_id(number), path=share.socket)]
    read_only = {"readonly": "on"} if folder.read_only else {}
    # With `none`, the guest's files belong to QEMU's user. With `remap`, folders may contain mounts.
    how = {"security_model": "none", "multidevs": "remap"}
    return ["-fsdev", option("local", id=folder_id(number), path=folder.source, **how, **read_only)]


def folder_device(board: Board, number: int, share: Share) -> dict[str, str | int]:
    """Return the properties of the device that shares a folder. The device's name is its `driver`."""
    name, tag = folder_id(number), share.folder.tag
    bus = {"bus": slot_id(number)} if board.needs_root_ports else {}
    device: dict[str, str | int] = {"driver": board.folder_device(share.transport), "id": name, **bus}
    if share.transport is Transport.VIRTIOFS:
        return {**device, "chardev": name, "tag": tag, "queue-size": _VIRTIOFS_QUEUE}
    return {**device, "fsdev": name, "mount_tag": tag}


def folder_id(number: int) -> str:
    """Return the ID of the device, and of the device's backend, that shares the folder with this number."""
    return f"{_FOLDER}{number}"


def is_folder_id(name: str) -> bool:
    """Whether this is the ID of a device that shares a folder."""
    return name.startswith(_FOLDER) and name.removeprefix(_FOLDER).isdecimal()


def slot_id(number: int) -> str:
    """Return the ID of the root port into which the folder with this number is plugged."""
    return f"slot{number}"


def _monitors(files: LaunchFiles) -> list[str]:
    sockets = {"qmp": files.qmp_socket, "qmp-tools": files.qmp_tools_socket}
    return [
        word
        for name, path in sockets.items()
        for word in (
            "-chardev", option("socket", id=name, path=path, server="on", wait="off"),
            "-mon", option(chardev=name, mode="control"),
        )
    ]  # fmt: skip
