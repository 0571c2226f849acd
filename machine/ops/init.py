"""`machine init`: from an image reference to a machine that can be started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import assert_never

from machine.errors import BadInputError, MachineError
from machine.files import atomic_writer, write_atomic
from machine.ignition import cloud_config
from machine.ignition.document import replaced
from machine.ignition.provision import Keys, ignition_text, provision
from machine.ignition.seed import fat_image, fat_size
from machine.image.cache import BaseImage
from machine.image.catalogue import DEFAULT_PACKAGES, CatalogueImage
from machine.image.reference import LOCAL_STREAM, EmptyReference, StreamReference
from machine.model.arch import Arch
from machine.model.config import ImageOrigin, MachineConfig, Provisioning
from machine.model.first_boot import parse_labels
from machine.model.host import AcceleratorChoice, Host
from machine.model.names import (
    DEFAULT_MACHINE,
    PROVIDER_VARIABLE,
    check_machine_name,
    check_name_form,
    check_provider,
    check_username,
)
from machine.model.settings import settings_of
from machine.model.transport import TransportChoice
from machine.model.units import GIB
from machine.model.usb import usb_texts
from machine.ops.image import ImageRequest, image_cache, image_request, obtain, parse_arch
from machine.ops.init_file import load
from machine.ops.init_first_boot import check_together, check_users, read_first_boot
from machine.ops.init_request import InitRequest
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.creation import fresh_mac, guest_uid, make_keys, publish
from machine.ops.shared.defaults import effective, naming_source_of
from machine.ops.shared.folders import check_driver, check_inotify, chosen_folders
from machine.ops.shared.resources import check_resources, check_usbs
from machine.ops.shared.timezone import LOCAL, resolve_timezone
from machine.qemu.acceleration import HardwareHelp, check_qemu, choose_accelerator, early_notice
from machine.qemu.firmware import find_firmware
from machine.qemu.img import QemuImg
from machine.qemu.probe import find_qemu, probe_hardware, probe_qemu
from machine.report import Reporter
from machine.store import drafts
from machine.store.paths import MachinePaths, config_home


def init(request: InitRequest, context: Context, report: Reporter) -> MachineConfig:
    """Make the machine, or nothing.

    Raises:
        MachineError: something in the request cannot be, or a file, the network or a program failed.
    """
    if request.file is not None:
        request = request.completed_by(load(request.file))
    name = DEFAULT_MACHINE if request.name is None else request.name
    check_name_form(name)
    if provider := request.provider or context.environment.get(PROVIDER_VARIABLE):
        check_provider(provider)
    check_machine_name(name)
    chosen = effective(context, flags=request.flags)
    settings = settings_of(chosen)
    with naming_source_of(chosen["username"]):
        username = check_username(settings.username)
    if context.roots.machine(name).directory.exists():
        raise BadInputError(f'machine "{name}" already exists')
    registration = ClientRegistration(context)
    registration.check_free(name)
    resources = check_resources(chosen, context.host)
    folders = chosen_folders(chosen["volumes"], username, context)
    driver = TransportChoice.parse(request.volume_driver or TransportChoice.AUTO)
    mount_inotify = bool(request.mount_inotify)
    check_inotify(wanted=mount_inotify, host=context.host)
    usbs = usb_texts(request.usbs or ())
    with naming_source_of(chosen["timezone"]):
        timezone = resolve_timezone(settings.timezone, context.environment)
    arch = guest_arch(request.arch, context.host)
    check_usbs(usbs, arch)
    with naming_source_of(chosen["image"]):
        wanted = image_request(settings.image, arch, request.image_options, context)
    provisioning = choose_provisioning(request.provisioning, wanted)
    swap_mib = request.swap_mib or 0
    _check_swap(swap_mib, wanted.reference, provisioning)
    first_boot = read_first_boot(request.first_boot, context.environment)
    check_together(first_boot, swap_mib, wanted.reference, provisioning)
    if first_boot.ignition and not first_boot.ignition.replaces:
        check_users(first_boot.ignition, username, guest_uid(context.uid))
    labels = parse_labels(request.labels or ())
    check_host(arch, settings.accel, context, report)
    check_driver(driver, folders, arch, context.host)
    with image_cache(context).using():
        base = None if isinstance(wanted.source, EmptyReference) else obtain(wanted, context, report)
        if base:
            check_image_arch(base, arch)
            _check_disk_holds(base, resources.disk_gib)
        config = MachineConfig(
            name=name,
            created=datetime.now(UTC),
            last_up=None,
            arch=arch,
            accelerator=settings.accel,
            resources=resources,
            username=username,
            uid=guest_uid(context.uid),
            rootful=settings.rootful,
            timezone=timezone,
            ssh_port=0,
            mac=fresh_mac(),
            image=_origin(wanted, base),
            swap_mib=swap_mib,
            usbs=usbs,
            folders=folders,
            volume_driver=driver.value,
            mount_inotify=mount_inotify,
            native_ca=settings.import_native_ca,
            timezone_local=settings.timezone == LOCAL,
            labels=labels,
            first_boot=first_boot,
            provision_pending=bool(first_boot.scripts or first_boot.playbook),
            provisioning=provisioning,
        )
        packages = wanted.source.packages if isinstance(wanted.source, CatalogueImage) else DEFAULT_PACKAGES
        return _make(config, base, packages, registration, context, report)


def _origin(wanted: ImageRequest, base: BaseImage | None) -> ImageOrigin:
    """What the record tells of the image; None is a disk without one."""
    if base is None:
        return ImageOrigin(reference=wanted.reference, digest="")
    return ImageOrigin(
        reference=wanted.reference,
        digest=base.digest,
        stream=base.stream,
        release=base.release,
        location=base.location,
        verified=base.verified.value,
        signer=base.signer,
        promised=wanted.options.sha256 or "",
    )


def choose_provisioning(asked: Provisioning | None, wanted: ImageRequest) -> Provisioning:
    """What the image speaks: the catalogue knows of its own ones, a person of others, and streams speak Ignition.

    Raises:
        BadInputError: it is known to speak something else than was asked for.
    """
    match wanted.source:
        case CatalogueImage(provisioning=provisioning):
            known = provisioning
        case StreamReference():
            known = Provisioning.IGNITION
        case _:
            return asked or Provisioning.IGNITION
    if asked not in (None, known):
        raise BadInputError(f"the image {wanted.reference} is provisioned by {known}", hint="leave out --provisioning")
    return known


def _make(
    config: MachineConfig,
    base: BaseImage | None,
    packages: Sequence[str],
    registration: ClientRegistration,
    context: Context,
    report: Reporter,
) -> MachineConfig:
    with drafts.draft(context.roots, config.name) as paths:
        keys = make_keys(config.name, paths)
        _write_provisioning(config, keys, packages, paths)
        if base:
            QemuImg().create_overlay(paths.disk, base.path, config.resources.disk_gib)
        else:
            QemuImg().create_empty(paths.disk, config.resources.disk_gib)
        config = publish(config, paths, registration, context, report)
    _tell_of_ignition(config, keys, context.roots.machine(config.name), report)
    return config


def _tell_of_ignition(config: MachineConfig, keys: Keys, paths: MachinePaths, report: Reporter) -> None:
    """What the user's own config does to ours."""
    theirs = config.first_boot.ignition
    if theirs is None:
        return
    if theirs.replaces:
        report.notice(
            f"The guest gets {theirs.name} alone: machine start reaches it only if root there accepts {paths.identity}"
            f".pub and its SSH server has {paths.host_key}; {paths.ignition} can be changed until the first start"
        )
    elif lost := replaced(provision(config, keys), theirs.text):
        report.notice(f"{theirs.name} takes the place of what a machine has of its own: {', '.join(lost)}")


def _write_provisioning(config: MachineConfig, keys: Keys, packages: Sequence[str], paths: MachinePaths) -> None:
    match config.provisioning:
        case Provisioning.IGNITION:
            write_atomic(paths.ignition, ignition_text(config, keys))
        case Provisioning.CLOUD_INIT:
            seed = cloud_config.render(provision(config, keys), config, packages)
            with atomic_writer(paths.seed) as stream:
                stream.write(fat_image(cloud_config.LABEL, seed.files()))
                stream.truncate(fat_size())
        case _:
            assert_never(config.provisioning)


def guest_arch(wanted: str | None, host: Host) -> Arch:
    """The architecture that was asked for, else the host's.

    Raises:
        BadInputError: there are no guests of the one that was asked for.
        MachineError: there are none of the host's.
    """
    if wanted is not None:
        return parse_arch(wanted)
    try:
        return Arch.parse(host.machine)
    except ValueError as error:
        raise MachineError(
            f"there are no guests of this host's architecture, {host.machine}",
            hint=f"choose one with --arch: {', '.join(Arch)}",
        ) from error


def check_host(arch: Arch, choice: AcceleratorChoice, context: Context, report: Reporter) -> None:
    """Whether this host has QEMU and firmware for such a guest, told before anything is fetched.

    Raises:
        MachineError: it has not, or the accelerator is one that can never run it here.
    """
    host = context.host
    qemu = probe_qemu(find_qemu(arch, host))
    check_qemu(qemu, arch, host)
    # What keeps a hypervisor from working may go away before a start.
    hypervisor = HardwareHelp(accelerator=host.os.traits.accelerator, obstacle="")
    acceleration = choose_accelerator(choice, arch, host, hypervisor, qemu)
    find_firmware(arch, host, binary=qemu.path, config_home=config_home(context.environment, context.home))
    notice = acceleration.notice
    if not notice and choice is not AcceleratorChoice.AUTO:
        notice = early_notice(choice, probe_hardware(host, qemu))
    if notice:
        report.notice(notice)


def check_image_arch(base: BaseImage, arch: Arch) -> None:
    """What a stream has told of an image holds for every way to it; of other images nothing is known before a boot.

    Raises:
        BadInputError: the image is for guests of another architecture.
    """
    if base.stream and base.arch != arch:
        raise BadInputError(
            f"this is {base.stream} {base.release} for {base.arch}, and the machine is to be {arch}",
            hint=f"use --arch {base.arch}, or an image for {arch}",
        )


def _check_swap(swap_mib: int, reference: str, provisioning: Provisioning) -> None:
    if swap_mib < 0:
        raise BadInputError(f"requested amount of swap ({swap_mib} MB) must be at least 0 MB")
    if swap_mib and reference == LOCAL_STREAM:
        raise BadInputError(
            f"the image {LOCAL_STREAM} has no zram generator, which makes the swap", hint="leave out --swap"
        )
    if swap_mib and provisioning is Provisioning.CLOUD_INIT:
        raise BadInputError("a guest that cloud-init provisions gets no swap", hint="leave out --swap")


def _check_disk_holds(base: BaseImage, disk_gib: int) -> None:
    needed = QemuImg().virtual_size(base.path)
    if disk_gib * GIB < needed:
        raise BadInputError(
            f"requested disk size ({disk_gib} GB) is smaller than the image ({-(-needed // GIB)} GB)",
            hint="give a larger --disk-size",
        )
