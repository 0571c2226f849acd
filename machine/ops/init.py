"""`machine init`: from an image reference to a machine that can be started."""

from __future__ import annotations

import os
import re
import secrets
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine.errors import BadInputError, MachineError
from machine.files import write_atomic
from machine.ignition.provision import Keys, provision
from machine.image.cache import BaseImage
from machine.model.arch import Arch
from machine.model.config import (
    DEFAULT_DISK_GIB,
    DEFAULT_MEMORY_MIB,
    DEFAULT_USERNAME,
    ImageOrigin,
    MachineConfig,
    Resources,
)
from machine.model.host import AcceleratorChoice, Host
from machine.model.names import check_machine_name, check_username
from machine.model.units import GIB
from machine.ops.context import Context
from machine.ops.images import image_cache, image_request, is_empty, obtain
from machine.ops.registration import Registry
from machine.ops.resources import checked_cpus, checked_disk, checked_memory
from machine.qemu.img import QemuImg
from machine.qemu.probe import find_qemu
from machine.report import Reporter, SilentReporter
from machine.ssh import keys as ssh_keys
from machine.ssh.command import known_hosts_line
from machine.store import drafts, records, ssh_ports
from machine.store.paths import MachinePaths

# IEEE 802's locally administered range that QEMU and libvirt use for guests.
_MAC_PREFIX = "52:54:00"
_GUEST_UID_OF_ROOT = 1000
_TIMEZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_ZONEINFO = "zoneinfo/"


@dataclass(frozen=True, kw_only=True)
class InitRequest:
    """What was asked for; None where it was not. Memory in MiB, the disk in GiB.

    `image_options` are those of ops.images.image_request.
    """

    name: str
    image: str | None = None
    image_options: Mapping[str, Any] = field(default_factory=dict)
    cpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    username: str | None = None
    timezone: str = "local"
    rootful: bool = False
    volumes: tuple[str, ...] = ()
    accelerator: AcceleratorChoice = AcceleratorChoice.AUTO


def init(request: InitRequest, context: Context, report: Reporter) -> MachineConfig:
    """Make the machine, or nothing.

    Raises:
        MachineError: something in the request cannot be, or a file, the network or a program failed.
    """
    name = check_machine_name(request.name)
    username = check_username(request.username or DEFAULT_USERNAME)
    if context.roots.machine(name).directory.exists():
        raise BadInputError(f'machine "{name}" already exists')
    registry = Registry(context)
    registry.check_free(name)
    resources = check_resources(request, context.host)
    _check_volumes(request.volumes)
    timezone = resolve_timezone(request.timezone, context.environment)
    arch = guest_arch(context.host)
    wanted = image_request(request.image, arch, request.image_options)
    find_qemu(arch, context.host.os)
    with image_cache(context).using():
        base = None if is_empty(wanted.reference) else obtain(wanted, context, report)
        if base:
            _check_disk_holds(base, resources.disk_gib)
        config = MachineConfig(
            name=name,
            created=datetime.now(UTC),
            last_up=None,
            arch=arch,
            accelerator=request.accelerator,
            resources=resources,
            username=username,
            uid=guest_uid(context.uid),
            rootful=request.rootful,
            timezone=timezone,
            ssh_port=0,
            mac=_MAC_PREFIX + "".join(f":{byte:02x}" for byte in secrets.token_bytes(3)),
            image=_origin(str(wanted.reference), base),
        )
        return _make(config, base, registry, context, report)


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


def _make(
    config: MachineConfig, base: BaseImage | None, registry: Registry, context: Context, report: Reporter
) -> MachineConfig:
    roots = context.roots
    with drafts.draft(roots, config.name) as paths:
        keys = _make_keys(config.name, paths)
        write_atomic(paths.ignition, provision(config, keys).to_json())
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


def _make_keys(name: str, paths: MachinePaths) -> Keys:
    authorized = ssh_keys.generate(paths.identity, comment=f"machine-{name}")
    host_public = ssh_keys.generate(paths.host_key, comment=f"host-key-of-{name}")
    write_atomic(paths.known_hosts, known_hosts_line(name, host_public))
    return Keys(authorized=authorized, host_private=paths.host_key.read_text(), host_public=host_public)


def guest_arch(host: Host) -> Arch:
    """The guest's architecture is the host's.

    Raises:
        MachineError: guests cannot have it.
    """
    try:
        return Arch.parse(host.machine)
    except ValueError as error:
        raise MachineError(f"there are no guests of this host's architecture, {host.machine}") from error


def guest_uid(host_uid: int) -> int:
    """The host user's, so that shared files have one owner; for root the usual one."""
    return host_uid or _GUEST_UID_OF_ROOT


def check_resources(request: InitRequest, host: Host) -> Resources:
    """What was asked for or the defaults, within what the host has; texts as podman has them.

    Raises:
        BadInputError: more than the host has, or less than a guest needs.
    """
    return Resources(
        memory_mib=checked_memory(DEFAULT_MEMORY_MIB if request.memory_mib is None else request.memory_mib, host),
        cpus=checked_cpus(max(1, host.cpus // 2) if request.cpus is None else request.cpus, host),
        disk_gib=checked_disk(DEFAULT_DISK_GIB if request.disk_gib is None else request.disk_gib),
    )


def _check_volumes(volumes: tuple[str, ...]) -> None:
    """`--volume ""` asks for none, which is all that there is so far."""
    if any(volumes):
        raise BadInputError("volumes are not supported by this version", hint="leave out --volume")


def _check_disk_holds(base: BaseImage, disk_gib: int) -> None:
    needed = QemuImg().virtual_size(base.path)
    if disk_gib * GIB < needed:
        raise BadInputError(
            f"requested disk size ({disk_gib} GB) is smaller than the image ({-(-needed // GIB)} GB)",
            hint="give a larger --disk-size",
        )


def resolve_timezone(wanted: str, environment: Mapping[str, str], localtime: Path = Path("/etc/localtime")) -> str:
    """A name of the time zone database; `local` is the host's own, UTC where it has no name.

    Raises:
        BadInputError: it cannot be such a name.
    """
    if wanted == "local":
        candidate = environment.get("TZ", "").removeprefix(":")
        if not candidate:
            _, _, candidate = os.path.realpath(localtime).rpartition(_ZONEINFO)
        return candidate if _TIMEZONE.fullmatch(candidate) else "UTC"
    if not _TIMEZONE.fullmatch(wanted) or not _is_known_zone(wanted):
        raise BadInputError(f'invalid timezone "{wanted}"', hint='give a name like "Europe/Stockholm", or "local"')
    return wanted


def _is_known_zone(name: str) -> bool:
    """By this host's database; a host without one knows no better."""
    databases = [Path(directory) for directory in zoneinfo.TZPATH if Path(directory).is_dir()]
    return not databases or any((directory / name).is_file() for directory in databases)
