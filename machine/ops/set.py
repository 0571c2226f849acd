"""`machine set`: what a stopped machine has of its host, and whose containers it prefers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from machine import lock
from machine.errors import BadInputError, MachineError
from machine.model.config import MachineConfig
from machine.model.folders import Folder, check_targets
from machine.model.host import Host
from machine.model.transport import TransportChoice
from machine.model.units import GIB
from machine.model.usb import usb_texts
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.folders import check_driver, check_inotify, read_volumes
from machine.ops.shared.renaming import finish_rename
from machine.ops.shared.resources import check_usbs, checked_cpus, checked_disk, checked_memory
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store import drafts, records
from machine.store.paths import MachinePaths


@dataclass(frozen=True, kw_only=True)
class SetRequest:
    """What is to change; None where it is not.

    Memory in MiB, the disk in GiB; no USB devices, or folders, are `("",)`.
    """

    cpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    rootful: bool | None = None
    usbs: tuple[str, ...] | None = None
    volumes: tuple[str, ...] | None = None
    volume_driver: str | None = None
    mount_inotify: bool | None = None
    native_ca: bool | None = None


def set_machine(name: str, request: SetRequest, context: Context, report: Reporter) -> None:
    """Change all that was asked for, or nothing.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: something of it cannot be.
        MachineError: the machine runs, or its disk cannot grow.
    """
    finish_rename(name, context, report)
    check_inotify(wanted=bool(request.mount_inotify), host=context.host)
    folders = None if request.volumes is None else read_volumes(request.volumes, context)
    paths = context.roots.machine(name)
    with lock.held(paths.lock, timeout_s=1) as free, drafts.names_lock(context.roots):
        if not free:
            raise MachineError("unable to change settings unless vm is stopped")
        config = records.load(context.roots, name)
        changed = plan_changes(config, request, context.host, folders)
        if changed.volume_driver != config.volume_driver:
            check_driver(TransportChoice(changed.volume_driver), changed.folders, config.arch, context.host)
        registration = ClientRegistration(context)
        registration.check_readable()
        # The disk grows before the record says so: a record that is behind can be set again.
        if changed.resources.disk_gib != config.resources.disk_gib and _grow(changed, paths):
            report.notice(f"The root file system of {name} grows into the larger disk at the next start")
        records.edit(paths, lambda config: plan_changes(config, request, context.host, folders))
        if request.rootful is not None:
            registration.prefer(changed)


def plan_changes(
    config: MachineConfig, request: SetRequest, host: Host, folders: tuple[Folder, ...] | None = None
) -> MachineConfig:
    """The machine as it is to be, with these `folders` instead of its own; texts as podman has them.

    Raises:
        BadInputError: something cannot be.
    """
    resources = config.resources
    if request.cpus is not None:
        resources = replace(resources, cpus=checked_cpus(request.cpus, host))
    if request.memory_mib is not None:
        resources = replace(resources, memory_mib=checked_memory(request.memory_mib, host))
    if request.disk_gib is not None:
        check_larger(request.disk_gib, resources.disk_gib)
        resources = replace(resources, disk_gib=checked_disk(request.disk_gib))
    usbs = config.usbs if request.usbs is None else usb_texts(request.usbs)
    check_usbs(usbs, config.arch)
    folders = config.folders if folders is None else folders
    check_targets(folders, config.username)
    driver = config.volume_driver if request.volume_driver is None else TransportChoice.parse(request.volume_driver)
    rootful = config.rootful if request.rootful is None else request.rootful
    outdated = folders != config.folders or rootful != config.rootful or resources.disk_gib != config.resources.disk_gib
    return replace(
        config,
        resources=resources,
        rootful=rootful,
        usbs=usbs,
        folders=folders,
        volume_driver=str(driver),
        mount_inotify=config.mount_inotify if request.mount_inotify is None else request.mount_inotify,
        native_ca=config.native_ca if request.native_ca is None else request.native_ca,
        guest_outdated=config.guest_outdated or outdated,
    )


def check_larger(wanted_gib: int, disk_gib: int) -> None:
    """Raises:
    BadInputError: the disk would not grow.
    """
    if wanted_gib <= disk_gib:
        raise BadInputError(f"new disk size must be larger than {disk_gib} GB")


def _grow(config: MachineConfig, paths: MachinePaths) -> bool:
    """Returns whether there was a disk to grow: that of a first boot is made at the start."""
    if config.image.digest and not config.provisioned:
        return False
    image = QemuImg()
    held = image.virtual_size(paths.disk)
    wanted = config.resources.disk_gib
    # It may have grown in a command that ended before the record was written.
    check_larger(wanted, -(-held // GIB) - 1)
    if held < wanted * GIB:
        image.grow(paths.disk, wanted)
    return True
