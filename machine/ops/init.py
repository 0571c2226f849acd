"""`machine init`: from an image reference to a machine that can be started."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, assert_never

from machine.errors import BadInputError, MachineError
from machine.files import atomic_writer, write_atomic
from machine.ignition import cloud_config
from machine.ignition.provision import Keys, provision
from machine.ignition.seed import fat_image, fat_size
from machine.image.cache import BaseImage
from machine.image.catalogue import DEFAULT_PACKAGES
from machine.image.reference import LOCAL_STREAM, Reference, StreamReference
from machine.model.arch import Arch
from machine.model.config import (
    ImageOrigin,
    MachineConfig,
    Provisioning,
    Resources,
)
from machine.model.host import AcceleratorChoice, Host
from machine.model.names import PROVIDER_VARIABLE, check_machine_name, check_name_form, check_provider, check_username
from machine.model.settings import EffectiveSetting, Value, settings_of
from machine.model.units import GIB
from machine.model.usb import usb_texts
from machine.ops.config import COMMAND_LINE, blaming, effective
from machine.ops.context import Context
from machine.ops.images import ImageRequest, image_cache, image_request, is_empty, obtain, parse_arch
from machine.ops.registration import Registry
from machine.ops.resources import check_usbs, checked_cpus, checked_disk, checked_memory
from machine.ops.timezone import resolve_timezone
from machine.qemu.acceleration import HardwareHelp, check_qemu, choose_accelerator
from machine.qemu.firmware import find_firmware
from machine.qemu.img import QemuImg
from machine.qemu.probe import find_qemu, probe_qemu
from machine.report import Reporter, SilentReporter
from machine.ssh import keys as ssh_keys
from machine.ssh.command import known_hosts_line
from machine.store import drafts, records, ssh_ports
from machine.store.paths import MachinePaths, config_home

# IEEE 802's locally administered range that QEMU and libvirt use for guests.
_MAC_PREFIX = "52:54:00"
_GUEST_UID_OF_ROOT = 1000


@dataclass(frozen=True, kw_only=True)
class InitRequest:
    """What was asked for; None where it was not, and the settings decide. Memory and swap in MiB, the disk in GiB.

    `image_options` are those of ops.images.image_request. `provisioning` is what an image speaks that no catalogue has.
    """

    name: str
    image: str | None = None
    image_options: Mapping[str, Any] = field(default_factory=dict)
    cpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    username: str | None = None
    timezone: str | None = None
    rootful: bool | None = None
    volumes: tuple[str, ...] | None = None
    accelerator: AcceleratorChoice | None = None
    provider: str | None = None
    swap_mib: int = 0
    usbs: tuple[str, ...] = ()
    arch: str | None = None
    provisioning: Provisioning | None = None

    @property
    def flags(self) -> dict[str, Value]:
        """What was asked for, by the keys of Settings."""
        asked = {
            "image": self.image,
            "cpus": self.cpus,
            "memory": self.memory_mib,
            "disk_size": self.disk_gib,
            "username": self.username,
            "timezone": self.timezone,
            "rootful": self.rootful,
            "volumes": self.volumes,
            "accel": self.accelerator,
        }
        return {key: value for key, value in asked.items() if value is not None}


def init(request: InitRequest, context: Context, report: Reporter) -> MachineConfig:
    """Make the machine, or nothing.

    Raises:
        MachineError: something in the request cannot be, or a file, the network or a program failed.
    """
    name = request.name
    check_name_form(name)
    if provider := request.provider or context.environment.get(PROVIDER_VARIABLE):
        check_provider(provider)
    check_machine_name(name)
    chosen = effective(context, flags=request.flags)
    settings = settings_of(chosen)
    with blaming(chosen["username"]):
        username = check_username(settings.username)
    if context.roots.machine(name).directory.exists():
        raise BadInputError(f'machine "{name}" already exists')
    registry = Registry(context)
    registry.check_free(name)
    resources = check_resources(chosen, context.host)
    _check_volumes(chosen["volumes"], report)
    usbs = usb_texts(request.usbs)
    with blaming(chosen["timezone"]):
        timezone = resolve_timezone(settings.timezone, context.environment)
    arch = guest_arch(request.arch, context.host)
    check_usbs(usbs, arch)
    with blaming(chosen["image"]):
        wanted = image_request(settings.image, arch, request.image_options, context)
    provisioning = choose_provisioning(request.provisioning, wanted)
    _check_swap(request.swap_mib, wanted.reference, provisioning)
    check_host(arch, settings.accel, context, report)
    with image_cache(context).using():
        base = None if is_empty(wanted.reference) else obtain(wanted, context, report)
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
            mac=_MAC_PREFIX + "".join(f":{byte:02x}" for byte in secrets.token_bytes(3)),
            image=_origin(str(wanted.reference), base),
            swap_mib=request.swap_mib,
            usbs=usbs,
            provisioning=provisioning,
        )
        packages = wanted.entry.packages if wanted.entry else DEFAULT_PACKAGES
        return _make(config, base, packages, registry, context, report)


def _origin(reference: str, base: BaseImage | None) -> ImageOrigin:
    """What the record tells of the image; None is a disk without one."""
    if base is None:
        return ImageOrigin(reference=reference, digest="")
    return ImageOrigin(
        reference=reference,
        digest=base.digest,
        stream=base.stream,
        release=base.release,
        location=base.location,
        verified=base.verified.value,
        signer=base.signer,
    )


def choose_provisioning(asked: Provisioning | None, wanted: ImageRequest) -> Provisioning:
    """What the image speaks: the catalogue knows of its own ones, a person of others, and streams speak Ignition.

    Raises:
        BadInputError: it is known to speak something else than was asked for.
    """
    if wanted.entry:
        known = wanted.entry.provisioning
    elif isinstance(wanted.reference, StreamReference):
        known = Provisioning.IGNITION
    else:
        return asked or Provisioning.IGNITION
    if asked not in (None, known):
        raise BadInputError(f"the image {wanted.reference} is provisioned by {known}", hint="leave out --provisioning")
    return known


def _make(
    config: MachineConfig,
    base: BaseImage | None,
    packages: Sequence[str],
    registry: Registry,
    context: Context,
    report: Reporter,
) -> MachineConfig:
    roots = context.roots
    with drafts.draft(roots, config.name) as paths:
        keys = _make_keys(config.name, paths)
        _write_provisioning(config, keys, packages, paths)
        if base:
            QemuImg().create_overlay(paths.disk, base.path, config.resources.disk_gib)
        else:
            QemuImg().create_empty(paths.disk, config.resources.disk_gib)
        # One at a time from here: ports are reserved, and old Podman clients do not lock their files.
        with drafts.registry(roots):
            drafts.sweep(roots)
            config = replace(config, ssh_port=ssh_ports.choose(ssh_ports.reserved_ports(roots)))
            records.save(paths, config)
            drafts.publish(paths, roots, config.name)
            try:
                registry.register(config, report)
            except BaseException:
                # What has failed first is what a person should hear of.
                registry.unregister(config.name, SilentReporter())
                drafts.withdraw(roots, config.name)
                raise
    return config


def _write_provisioning(config: MachineConfig, keys: Keys, packages: Sequence[str], paths: MachinePaths) -> None:
    document = provision(config, keys)
    match config.provisioning:
        case Provisioning.IGNITION:
            write_atomic(paths.ignition, document.to_json())
        case Provisioning.CLOUD_INIT:
            seed = cloud_config.render(document, config, packages)
            with atomic_writer(paths.seed) as stream:
                stream.write(fat_image(cloud_config.LABEL, seed.files()))
                stream.truncate(fat_size())
        case _:
            assert_never(config.provisioning)


def _make_keys(name: str, paths: MachinePaths) -> Keys:
    authorized = ssh_keys.generate(paths.identity, comment=f"machine-{name}")
    host_public = ssh_keys.generate(paths.host_key, comment=f"host-key-of-{name}")
    write_atomic(paths.known_hosts, known_hosts_line(name, host_public))
    return Keys(authorized=authorized, host_private=paths.host_key.read_text(), host_public=host_public)


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
    if acceleration.notice:
        report.notice(acceleration.notice)


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


def guest_uid(host_uid: int) -> int:
    """The host user's, so that shared files have one owner; for root the usual one."""
    return host_uid or _GUEST_UID_OF_ROOT


def check_resources(chosen: Mapping[str, EffectiveSetting], host: Host) -> Resources:
    """What was chosen, within what the host has; texts as podman has them.

    Raises:
        BadInputError: more than the host has, or less than a guest needs.
    """
    settings = settings_of(chosen)
    with blaming(chosen["memory"]):
        memory_mib = checked_memory(settings.memory, host)
    with blaming(chosen["cpus"]):
        cpus = checked_cpus(settings.cpus, host)
    with blaming(chosen["disk_size"]):
        disk_gib = checked_disk(settings.disk_size)
    return Resources(cpus=cpus, memory_mib=memory_mib, disk_gib=disk_gib)


def _check_volumes(setting: EffectiveSetting, report: Reporter) -> None:
    """`--volume ""` asks for none, which is all that there is so far."""
    wanted = setting.value
    assert isinstance(wanted, tuple)
    if not any(wanted):
        return
    if setting.origin == COMMAND_LINE:
        raise BadInputError("volumes are not supported by this version", hint="leave out --volume")
    # Podman's own machines may need them: a file that is not ours keeps nobody from having a machine.
    report.notice(f"Volumes are not supported by this version; the machine has none of those in {setting.origin}")


def _check_swap(swap_mib: int, reference: Reference, provisioning: Provisioning) -> None:
    if swap_mib < 0:
        raise BadInputError(f"requested amount of swap ({swap_mib} MB) must be at least 0 MB")
    if swap_mib and str(reference) == LOCAL_STREAM:
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
