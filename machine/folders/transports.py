"""What carries the host's folders into a guest, decided once for each start."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from machine.errors import MachineError
from machine.files import write_atomic
from machine.folders.daemon import virtiofsd_commands
from machine.folders.probe import find_sftp_server, find_virtiofsd, probe_identities, usable_command
from machine.model.config import MachineConfig
from machine.model.folders import Folder, HostCarriers, Share, choose_transport, read_folder
from machine.model.host import Host
from machine.model.record import MachineRecord
from machine.model.transport import Transport, TransportChoice
from machine.qemu.acceleration import QemuFacts
from machine.qemu.probe import folder_devices
from machine.store.paths import MachinePaths

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A folder, what carries it, and why nothing does; `command` runs its virtiofsd, which listens on `socket`."""

    folder: Folder
    transport: Transport | None
    problem: str = ""
    command: Sequence[str] = ()
    socket: Path = Path()

    @property
    def share(self) -> Share | None:
        if self.transport is None or not self.transport.is_device:
            return None
        return Share(folder=self.folder, transport=self.transport, socket=PurePosixPath(self.socket))


def choose_carriers(record: MachineRecord, host: Host, qemu: QemuFacts, paths: MachinePaths) -> list[Carried]:
    """One for each of the machine's folders; a virtiofsd that is chosen has been tried."""
    config = record.config
    if not config.folders:
        return []
    choice = config.volume_driver
    carriers, commands = _probe(config, host, qemu, choice)
    transport, problem = choose_transport(choice, carriers, record.guest.transports)
    log.info("folders are carried by %s; %s", transport, carriers.obstacles)
    carried = []
    for number, folder in enumerate(config.folders):
        missing = source_problem(folder)
        command = commands.get(folder, ()) if transport is Transport.VIRTIOFS else ()
        carried.append(
            Carried(
                folder=folder,
                transport=None if missing else transport,
                problem=missing or problem,
                command=() if missing else command,
                socket=paths.folder_socket(number),
            )
        )
    return carried


def source_problem(folder: Folder) -> str:
    """Why the host has no such folder to share, empty where it has."""
    if not os.path.lexists(folder.source):
        return f"the folder {folder.source} does not exist on this host"
    if not Path(folder.source).is_dir():
        return f"{folder.source} is not a directory"
    return "" if os.access(folder.source, os.R_OK | os.X_OK) else f"the folder {folder.source} may not be read"


def _probe(
    config: MachineConfig, host: Host, qemu: QemuFacts, choice: TransportChoice
) -> tuple[HostCarriers, dict[Folder, Sequence[str]]]:
    commands: dict[Folder, Sequence[str]] = {}
    obstacles = dict.fromkeys(Transport, "")
    identities = probe_identities(config.uid)
    devices = folder_devices(qemu, config.arch)
    # Nothing is tried that cannot be chosen.
    if choice in (TransportChoice.AUTO, TransportChoice.VIRTIOFS):
        daemon, obstacles[Transport.VIRTIOFS] = find_virtiofsd(host)
        if Transport.VIRTIOFS not in devices:
            obstacles[Transport.VIRTIOFS] = f"{qemu.path} has no device for it"
        if daemon and Transport.VIRTIOFS in devices:
            for folder in config.folders:
                if source_problem(folder):
                    continue
                command, reason = usable_command(virtiofsd_commands(daemon, identities, folder))
                if command is None:
                    obstacles[Transport.VIRTIOFS] = reason
                    break
                commands[folder] = command
    if Transport.NINEP not in devices:
        obstacles[Transport.NINEP] = f"{qemu.path} has no device for it"
    elif identities.uid == 0 and choice is TransportChoice.AUTO:
        obstacles[Transport.NINEP] = "what root shares by it belongs to the wrong user in the guest"
    if find_sftp_server() is None:
        obstacles[Transport.SSHFS] = "sftp-server is not installed on this host"
    return HostCarriers(obstacles=obstacles), commands


def save_carriers(carried: Sequence[Carried], path: Path) -> None:
    """For a supervisor that takes over."""
    try:
        write_atomic(path, json.dumps([[str(each.folder), each.transport] for each in carried]))
    except (MachineError, OSError) as error:
        log.error("cannot note what carries the folders: %s", error)


def load_carriers(path: Path) -> list[Carried]:
    """What an earlier supervisor has chosen for the QEMU that still runs."""
    try:
        return [
            Carried(
                folder=read_folder(text),
                transport=Transport(transport) if transport else None,
                problem="" if transport else "nothing carries it",
            )
            for text, transport in json.loads(path.read_text())
        ]
    except (OSError, ValueError, TypeError) as error:
        log.info("no folders of an earlier supervisor: %s", error)
        return []
