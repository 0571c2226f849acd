"""`machine init`: make a machine from an image reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from machine.ignition.containers import services_digest
from machine.image.base import BaseImage
from machine.image.catalogue import packages_of
from machine.image.reference import EmptyReference
from machine.model.config import ImageOrigin, MachineConfig
from machine.model.first_boot import parse_labels
from machine.model.names import check_username
from machine.model.provider import Provider
from machine.model.record import GuestFacts, MachineRecord, Pending
from machine.model.settings import settings_of
from machine.model.transport import TransportChoice
from machine.model.usb import usb_texts
from machine.ops.init_checks import (
    check_disk_holds,
    check_host,
    check_image_arch,
    check_swap,
    check_unused,
    checked_name,
    choose_provisioning,
    guest_arch,
)
from machine.ops.init_file import load
from machine.ops.init_first_boot import check_together, check_users, read_first_boot
from machine.ops.init_provisioning import report_replaced_parts, write_provisioning
from machine.ops.init_remote import Agree, PlannedRemote, check_no_remote_options, make_remote, plan_remote
from machine.ops.init_request import InitRequest
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.creation import fresh_mac, guest_uid, make_keys, publish
from machine.ops.shared.defaults import effective, naming_source_of
from machine.ops.shared.folders import check_inotify, check_transport, chosen_folders, hidden_policy
from machine.ops.shared.images import ImageRequest, image_cache, image_request, obtain
from machine.ops.shared.resources import check_resources, check_usbs
from machine.ops.shared.timezone import LOCAL, resolve_timezone
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store import drafts


def disagree(_: str) -> bool:
    """Refuse to change anything on a remote host, because there is nobody to ask."""
    return False


def init(request: InitRequest, context: Context, report: Reporter, agree: Agree = disagree) -> MachineConfig:
    """Make the machine and return its config. If the machine cannot be completed, nothing is left of it.

    `agree` asks the user before anything is changed on a remote host.

    Raises:
        MachineError: something in the request is invalid, or a file, the network or a program failed.
    """
    if request.file is not None:
        request = request.completed_by(load(request.file))
    registration = ClientRegistration(context)
    return make(plan_machine(request, registration, context, report, agree), registration, context, report)


@dataclass(frozen=True, kw_only=True)
class PlannedMachine:
    """A machine as a request wants it: its config, and the image to make it from, which has not been fetched yet."""

    config: MachineConfig
    image: ImageRequest


Planned = PlannedMachine | PlannedRemote


def make(planned: Planned, registration: ClientRegistration, context: Context, report: Reporter) -> MachineConfig:
    """Make the machine and return its config. If the machine cannot be completed, nothing is left of it.

    Raises:
        MachineError: a file, the network or a program failed, or the disk is too small for the image.
    """
    if isinstance(planned, PlannedRemote):
        return make_remote(planned, registration, context, report)
    config, image = planned.config, planned.image
    with image_cache(context).using():
        base = None if isinstance(image.source, EmptyReference) else obtain(image, context, report)
        if base:
            check_image_arch(base, config.arch)
            check_disk_holds(base, config.resources.disk_gib)
            config = replace(config, image=_origin(image, base))
        return _make(config, base, packages_of(image.source), registration, context, report)


def plan_machine(
    request: InitRequest,
    registration: ClientRegistration | None,
    context: Context,
    report: Reporter,
    agree: Agree = disagree,
) -> Planned:
    """Check the request, and return the machine that it wants. Nothing is fetched or written yet.

    The name has to be unused, and this host has to be able to run the machine. Without a registration, the request is
    that of a machine that has been made already, so these two are not checked.

    Raises:
        BadInputError: something in the request is invalid.
        MachineError: this host lacks a program or a file that the machine needs.
    """
    name, provider = checked_name(request, context)
    if provider is Provider.SSH:
        if registration:
            check_unused(name, registration, context)
        return plan_remote(name, request, context, agree)
    check_no_remote_options(request)
    chosen = effective(context, flags=request.flags)
    settings = settings_of(chosen)
    with naming_source_of(chosen["username"]):
        username = check_username(settings.username)
    if registration:
        check_unused(name, registration, context)
    uid = guest_uid(context.uid)
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
        image = image_request(settings.image, arch, request.image_options, context)
    provisioning = choose_provisioning(request.provisioning, image)
    swap_mib = request.swap_mib or 0
    check_swap(swap_mib, provisioning)
    first_boot = read_first_boot(request.first_boot, context.environment)
    check_together(first_boot, swap_mib, image.reference, provisioning)
    if first_boot.ignition and not first_boot.ignition.replaces:
        check_users(first_boot.ignition, username, uid)
    labels = parse_labels(request.labels or ())
    if registration:
        check_host(arch, settings.accel, context, report)
        check_transport(driver, folders, arch, context.host, guest_uid=uid)
    config = MachineConfig(
        name=name,
        created=datetime.now(UTC),
        arch=arch,
        accelerator=settings.accel,
        resources=resources,
        username=username,
        uid=uid,
        rootful=settings.rootful,
        timezone=timezone,
        ssh_port=0,
        mac=fresh_mac(),
        image=ImageOrigin(reference=image.reference, digest=None, promised=image.options.sha256),
        swap_mib=swap_mib,
        usbs=usbs,
        folders=folders,
        volume_driver=driver,
        mount_inotify=mount_inotify,
        native_ca=settings.import_native_ca,
        idle_suspend=settings.idle_suspend,
        timezone_local=settings.timezone == LOCAL,
        labels=labels,
        first_boot=first_boot,
        provisioning=provisioning,
        machines_file=request.machines_file,
        verify_tls=image.options.verify_tls is not False,
    )
    return PlannedMachine(config=config, image=image)


def _origin(image: ImageRequest, base: BaseImage) -> ImageOrigin:
    """Return where the image came from, for the machine's record."""
    return ImageOrigin(
        reference=image.reference,
        digest=base.digest,
        stream=base.stream,
        release=base.release,
        location=base.location,
        verified=base.verified,
        signer=base.signer,
        promised=image.options.sha256,
    )


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
        write_provisioning(config, keys, packages, paths)
        if base:
            QemuImg().create_overlay(paths.disk, base.path, config.resources.disk_gib)
        else:
            QemuImg().create_empty(paths.disk, config.resources.disk_gib)
        pending = Pending(scripts=bool(config.first_boot.scripts or config.first_boot.playbook))
        record = MachineRecord(config=config, pending=pending, guest=GuestFacts(services=services_digest()))
        config = publish(record, paths, registration, context, report)
    report_replaced_parts(config, keys, context.roots.machine(config.name), report)
    if notice := hidden_policy(config.folders):
        report.notice(notice)
    return config
