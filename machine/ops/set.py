"""`machine set`: change the settings of a stopped machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from machine import lock
from machine.errors import BadInputError, MachineError
from machine.model.config import MachineConfig
from machine.model.folders import Folder, check_targets
from machine.model.host import Host
from machine.model.provider import Capability, check_capability
from machine.model.record import MachineRecord
from machine.model.settings import check_value
from machine.model.transport import TransportChoice
from machine.model.units import GIB
from machine.model.usb import usb_texts
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.first_boot_arguments import update_first_boot
from machine.ops.shared.folders import check_inotify, check_mountable, check_transport, hidden_policy, read_volumes
from machine.ops.shared.resources import check_usbs, checked_cpus, checked_disk, checked_memory
from machine.ops.shared.restoring import finish_interrupted
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store import drafts, records
from machine.store.paths import MachinePaths, is_suspended
from machine.store.suspension import load_suspension


@dataclass(frozen=True, kw_only=True)
class SetRequest:
    """The settings to change. A setting that is None stays as it is. `("",)` removes all USB devices or all folders."""

    cpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    rootful: bool | None = None
    usbs: tuple[str, ...] | None = None
    volumes: tuple[str, ...] | None = None
    volume_driver: str | None = None
    mount_inotify: bool | None = None
    native_ca: bool | None = None
    idle_suspend: str | None = None


def set_machine(name: str, request: SetRequest, context: Context, report: Reporter) -> None:
    """Change the requested settings of a stopped machine, all of them or none.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: one of the requested values is invalid, or this host cannot provide it.
        MachineError: the machine is running, or its disk cannot be grown.
    """
    before = finish_interrupted(name, context, report).config
    check_provider(before, request)
    username = before.username
    check_inotify(wanted=bool(request.mount_inotify), host=context.host)
    folders = None if request.volumes is None else read_volumes(request.volumes, username, context)
    paths = context.roots.machine(name)
    with lock.held(paths.lock, timeout_s=1) as free, drafts.names_lock(context.roots):
        if not free:
            raise MachineError(
                "unable to change settings unless vm is stopped", hint=f"stop it with: machine stop {name}"
            )
        record = records.load(context.roots, name)
        config = record.config
        if is_suspended(paths):
            check_keeps_hardware(name, request)
            check_keeps_folders(paths, name, request)
        changed = plan_changes(config, request, context.host, folders)
        if changed.volume_driver != config.volume_driver:
            check_transport(changed.volume_driver, changed.folders, config.arch, context.host, guest_uid=config.uid)
        registration = ClientRegistration(context)
        registration.check_readable()
        # Grow the disk before the record is changed, so that an interrupted command can be repeated.
        if changed.resources.disk_gib != config.resources.disk_gib and _grow(record, changed.resources.disk_gib, paths):
            report.notice(f"The root file system of {name} will grow into the larger disk at the next start")
        update_first_boot(record, changed, paths)
        records.edit(paths, lambda record: change_record(record, request, context.host, folders))
        if notice := hidden_policy(folders or ()):
            report.notice(notice)
        if request.rootful is not None:
            registration.prefer(changed, report)


def check_provider(config: MachineConfig, request: SetRequest) -> None:
    """Check that the machine's provider can change these settings.

    Raises:
        BadInputError: it cannot.
    """
    hardware = (request.cpus, request.memory_mib, request.disk_gib, request.usbs)
    of_guest = (request.native_ca, request.mount_inotify, request.volume_driver)
    wanted = {
        Capability.HARDWARE: hardware,
        Capability.SUSPEND: (request.idle_suspend,),
        Capability.GUEST_SETTINGS: of_guest,
    }
    for capability, values in wanted.items():
        if any(value is not None for value in values):
            check_capability(config.name, config.provider, capability)
    if request.volumes:
        check_mountable(config)
    if request.rootful and not config.has_root_socket:
        raise BadInputError(f'{config.username} cannot become root on the host of "{config.name}"')


def check_keeps_hardware(name: str, request: SetRequest) -> None:
    """Check that the request leaves the hardware as it is, because the memory of a suspended machine fits no other.

    Raises:
        MachineError: the request changes the hardware.
    """
    if any(value is not None for value in (request.cpus, request.memory_mib, request.disk_gib, request.usbs)):
        raise MachineError(
            f"{name} is suspended, and its memory fits only the CPUs, memory, disk and USB devices that it has",
            hint=f"stop it first: machine stop {name}; if its memory cannot be loaded: machine start --cold {name}",
        )


def check_keeps_folders(paths: MachinePaths, name: str, request: SetRequest) -> None:
    """Check that the request leaves the folders as they are, if a suspended machine has them mounted.

    Raises:
        MachineError: the request changes the folders.
    """
    if request.volumes is None and request.volume_driver is None:
        return
    suspension = load_suspension(paths)
    if suspension and suspension.hardware.keeps_folders:
        raise MachineError(
            f"{name} is suspended, and its folders were in use then", hint=f"stop it first: machine stop {name}"
        )


def change_record(
    record: MachineRecord, request: SetRequest, host: Host, folders: tuple[Folder, ...] | None = None
) -> MachineRecord:
    """Return the record with the requested changes. If a change concerns the guest, the guest is marked as outdated.

    Raises:
        BadInputError: one of the requested values is invalid, or this host cannot provide it.
    """
    before, after = record.config, plan_changes(record.config, request, host, folders)
    concerns_guest = (
        after.folders != before.folders
        or after.rootful != before.rootful
        or after.resources.disk_gib != before.resources.disk_gib
    )
    outdated = record.pending.guest_outdated or concerns_guest
    return replace(record, config=after, pending=replace(record.pending, guest_outdated=outdated))


def plan_changes(
    config: MachineConfig, request: SetRequest, host: Host, folders: tuple[Folder, ...] | None = None
) -> MachineConfig:
    """Return the config with the requested changes. If `folders` is not None, it replaces the folders of the config.

    The texts of errors are podman's.

    Raises:
        BadInputError: one of the requested values is invalid, or this host cannot provide it.
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
    return replace(
        config,
        resources=resources,
        rootful=rootful,
        usbs=usbs,
        folders=folders,
        volume_driver=driver,
        mount_inotify=config.mount_inotify if request.mount_inotify is None else request.mount_inotify,
        native_ca=config.native_ca if request.native_ca is None else request.native_ca,
        idle_suspend=_idle_suspend(config, request),
    )


def _idle_suspend(config: MachineConfig, request: SetRequest) -> str:
    if request.idle_suspend is None:
        return config.idle_suspend
    return str(check_value("idle_suspend", request.idle_suspend))


def check_larger(new_gib: int, disk_gib: int) -> None:
    """Check that the new size of a disk is larger than its present size `disk_gib`.

    Raises:
        BadInputError: the new size is smaller, or the same.
    """
    if new_gib <= disk_gib:
        raise BadInputError(f"new disk size must be larger than {disk_gib} GB")


def _grow(record: MachineRecord, new_gib: int, paths: MachinePaths) -> bool:
    """Grow the machine's disk file, and return True. If the next start makes a new disk anyway, just return False."""
    if record.fresh_disk_base:
        return False
    image = QemuImg()
    size_bytes = image.virtual_size(paths.disk)
    # An interrupted command may have grown the disk already.
    check_larger(new_gib, -(-size_bytes // GIB) - 1)
    if size_bytes < new_gib * GIB:
        image.grow(paths.disk, new_gib)
    return True
