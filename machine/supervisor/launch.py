"""Prepare a start by probing this host, deciding how to run the machine, and making the files that QEMU expects."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from machine.errors import MachineError, Page
from machine.files import FILE_PRIVATE, disk_errors
from machine.folders.probe import probe_transports
from machine.folders.sources import probe_sources
from machine.folders.transports import (
    MountedFolder,
    plan_folders,
    shares_of,
    transport_notices,
    within_slots,
)
from machine.image.intact import has_changed
from machine.image.layout import base_image
from machine.model.config import MachineConfig
from machine.model.folders import Share
from machine.model.hardware import Hardware
from machine.model.host import ACCEL_VARIABLE, AcceleratorChoice, Host
from machine.model.record import MachineRecord
from machine.model.transport import Transport
from machine.model.units import bytes_size
from machine.qemu.accelerator import Acceleration, QemuFacts, check_qemu, choose_accelerator, max_memory_mib
from machine.qemu.firmware import ensure_variables, find_firmware
from machine.qemu.img import QemuImg
from machine.qemu.plan import LaunchFiles, LaunchPlan, plan_launch
from machine.qemu.probe import find_qemu, folder_devices, probe_hardware, probe_qemu
from machine.ssh.client import check_client
from machine.store import drafts, records, ssh_ports
from machine.store.paths import MachinePaths, Roots, config_home
from machine.store.suspension import save_hardware
from machine.supervisor.helpers import helper_command
from machine.supervisor.launch_files import check_files
from machine.supervisor.launch_resume import check_kept_folders, usable_suspension
from machine.supervisor.qmp import MIN_FREE_BYTES

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What has been decided about one start of a machine."""

    record: MachineRecord
    """The machine's record, with the SSH port that this start uses."""

    plan: LaunchPlan
    hardware: Hardware
    hypervisor: str | None
    """As in `Acceleration`."""

    folders: Sequence[MountedFolder]
    base: Path | None
    """The base image of the machine's disk, or None if the disk has none."""


def prepare(
    roots: Roots,
    name: str,
    host: Host,
    *,
    environment: Mapping[str, str],
    patience: int,
    notice: Callable[[str], None],
    owns_port: Callable[[int], bool] = lambda _: False,
) -> Launch:
    """Decide how to run the machine, and make the files that QEMU expects. The caller must hold the machine's lock.

    `patience` multiplies the time in which programs of this host have to answer. `owns_port` says whether a port that
    is taken will be free for QEMU.

    Raises:
        MachineError: the machine cannot run on this host, or a program or file that it needs is missing.
    """
    paths = roots.machine(name)
    check_files(records.load(roots, name), paths)
    record = with_free_port(records.load(roots, name), roots, notice, owns_port)
    config = record.config
    qemu = _usable_qemu(config, host, patience)
    acceleration = _accelerate(config, host, qemu, environment)
    suspension = usable_suspension(record.name, paths, acceleration)
    if text := acceleration.notice if record.guest.last_up else acceleration.first_notice:
        notice(text)
    folders = _assign_transports(record, host, qemu, paths, notice, patience=patience)
    if suspension:
        folders = within_slots(folders, suspension.hardware)
        check_kept_folders(record.name, folders, suspension)
    hardware = suspension.hardware if suspension else new_hardware(record, acceleration, shares_of(folders))
    check_client()
    firmware = find_firmware(config.arch, host, binary=qemu.path, config_home=config_home(environment, Path.home()))
    base = _prepare_disk(record, paths, roots, patience)
    if base and has_changed(base):
        notice(f"The base image of {name} has changed since it was fetched; see: machine image verify")
    if text := low_space_notice(paths.directory, shutil.disk_usage(paths.directory).free):
        notice(text)
    if firmware:
        ensure_variables(firmware, paths.efi_vars)
    _make_private_file(paths.ignition_journal)
    make_console(paths)
    plan = plan_launch(
        replace(record, config=_within_limits(config, host, acceleration, notice)),
        binary=qemu.path,
        hardware=hardware,
        firmware=firmware,
        relay=helper_command(paths.relay),
        files=launch_files(paths),
        shares=shares_of(folders),
    )
    save_hardware(paths.hardware, hardware)
    return Launch(
        record=record, plan=plan, hardware=hardware, hypervisor=acceleration.hypervisor, folders=folders, base=base
    )


def new_hardware(record: MachineRecord, acceleration: Acceleration, shares: Sequence[Share]) -> Hardware:
    """Decide on the hardware of a guest that boots (pure)."""
    return Hardware(
        accelerator=acceleration.accelerator,
        cpu=acceleration.cpu,
        host_cpu=acceleration.host_cpu,
        first_boot=not record.guest.provisioned,
        rekey=record.pending.rekey,
        folder_slots=len(shares),
        shared_memory=any(share.transport is Transport.VIRTIOFS for share in shares),
    )


def low_space_notice(directory: Path, free_bytes: int) -> str | None:
    """Return a notice if the disk that holds the machine's folder is almost full, else None."""
    if free_bytes >= MIN_FREE_BYTES:
        return None
    free = bytes_size(free_bytes)
    return f"Only {free} are free on the disk that holds {directory}; when it is full, the guest is paused"


def launch_files(paths: MachinePaths) -> LaunchFiles:
    """Return the files and sockets that QEMU's command line names."""
    return LaunchFiles(
        disk=paths.disk,
        ignition=paths.ignition,
        rekey_table=paths.rekey_table,
        seed=paths.seed,
        efi_vars=paths.efi_vars,
        console=paths.console,
        ignition_journal=paths.ignition_journal,
        ready_socket=paths.ready_socket,
        ports_socket=paths.ports_socket,
        qmp_socket=paths.qmp_socket,
        qmp_tools_socket=paths.qmp_tools_socket,
    )


def with_free_port(
    record: MachineRecord,
    roots: Roots,
    notice: Callable[[str], None],
    owns_port: Callable[[int], bool] = lambda _: False,
) -> MachineRecord:
    """Return the record. If its SSH port is taken, give it a free one. The caller must hold the machine's lock."""
    config = record.config
    with drafts.names_lock(roots):
        if owns_port(config.ssh_port) or ssh_ports.is_free(config.ssh_port):
            return record
        notice(f"detected port conflict on machine ssh port [{config.ssh_port}], reassigning")
        port = ssh_ports.choose(ssh_ports.reserved_ports(roots, but=config.name))
        return records.edit(
            roots.machine(config.name), lambda record: replace(record, config=replace(record.config, ssh_port=port))
        )


def _usable_qemu(config: MachineConfig, host: Host, patience: int) -> QemuFacts:
    """Find QEMU for the machine's architecture, and check that it has what machines need.

    Raises:
        MachineError: QEMU is not installed, or lacks a feature that machines need.
    """
    qemu = probe_qemu(find_qemu(config.arch, host), patience=patience)
    check_qemu(qemu, config.arch, host)
    return qemu


def _accelerate(config: MachineConfig, host: Host, qemu: QemuFacts, environment: Mapping[str, str]) -> Acceleration:
    """Choose the accelerator of this start.

    Raises:
        MachineError: the accelerator that the user has chosen cannot be used on this host.
    """
    choice = AcceleratorChoice.from_environment(environment) or config.accelerator
    return choose_accelerator(
        choice,
        config.arch,
        host,
        probe_hardware(host, qemu),
        qemu,
        otherwise=f"start it emulated with: {ACCEL_VARIABLE}=tcg machine start {config.name}",
    )


def _within_limits(
    config: MachineConfig, host: Host, acceleration: Acceleration, notice: Callable[[str], None]
) -> MachineConfig:
    """Return the config. If this host cannot give a guest the configured memory, reduce it to what is possible."""
    max_mib = max_memory_mib(host, acceleration.accelerator)
    if max_mib is None or config.resources.memory_mib <= max_mib:
        return config
    notice(f"macOS before 12.4 gives a guest at most {max_mib} MiB of memory, so {config.name} gets only that much")
    return replace(config, resources=replace(config.resources, memory_mib=max_mib))


def _assign_transports(
    record: MachineRecord,
    host: Host,
    qemu: QemuFacts,
    paths: MachinePaths,
    notice: Callable[[str], None],
    *,
    patience: int,
) -> list[MountedFolder]:
    """Choose for each folder of the machine the transport that this start uses.

    virtiofs is chosen only if a run of virtiofsd has shown that it works here.
    """
    config = record.config
    if not config.folders:
        return []
    choice = config.volume_driver
    sources = probe_sources(config.folders)
    facts = probe_transports(choice, sources, guest_uid=config.uid, host=host, patience=patience)
    facts = facts.with_devices(folder_devices(qemu, config.arch, patience=patience))
    log.info("folders: %s; %s", sources, facts)
    sockets = [paths.folder_socket(number) for number in range(len(config.folders))]
    planned = plan_folders(sources, choice, facts, record.guest.transports, sockets)
    for text in transport_notices(planned, facts):
        notice(text)
    return planned


def _prepare_disk(record: MachineRecord, paths: MachinePaths, roots: Roots, patience: int) -> Path | None:
    """Return the base image of the machine's disk, or None if the disk has none.

    If the guest has not completed its first boot yet, make a new disk.

    Raises:
        MachineError: the base image is missing, or the disk cannot be made.
    """
    config = record.config
    base = base_image(roots.images, config.image.digest) if config.image.digest else None
    if base and not base.exists():
        raise MachineError(
            f"the base image of {config.name} is missing: {base}",
            hint=f"fetch it again with: machine image pull {config.image.pinned}",
            page=Page.DAMAGED_IMAGE,
        )
    if base and not record.guest.provisioned:
        # What an interrupted first boot has written would disturb the next one, and contains no data of the user.
        with disk_errors(paths.disk):
            paths.disk.unlink(missing_ok=True)
        QemuImg(patience=patience).create_overlay(paths.disk, base, config.resources.disk_gib)
    return base


def make_console(paths: MachinePaths) -> None:
    """Make the FIFO from which QEMU reads the serial console's input, and a new log to which QEMU writes the output."""
    if paths.serial_log.exists():
        paths.serial_log.replace(paths.previous_serial_log)
    _make_private_file(paths.serial_log)
    with disk_errors(paths.console_input):
        os.mkfifo(paths.console_input, FILE_PRIVATE)
        paths.console_output.symlink_to(paths.serial_log)


def _make_private_file(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=FILE_PRIVATE)
