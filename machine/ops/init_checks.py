"""Check that a new machine fits this host and the image that it is made from."""

from __future__ import annotations

from machine.errors import BadInputError, MachineError
from machine.image.base import BaseImage
from machine.image.catalogue import CatalogueImage
from machine.image.reference import StreamReference
from machine.model.arch import Arch
from machine.model.config import Provisioning
from machine.model.host import AcceleratorChoice, Host
from machine.model.names import (
    DEFAULT_MACHINE,
    PROVIDER_VARIABLE,
    check_machine_name,
    check_name_form,
    parse_provider,
)
from machine.model.provider import Provider
from machine.model.units import GIB
from machine.ops.init_request import InitRequest
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.images import ImageRequest, parse_arch
from machine.ops.shared.patience import start_patience
from machine.qemu.accelerator import HardwareSupport, check_qemu, choose_accelerator, early_notice
from machine.qemu.firmware import find_firmware
from machine.qemu.img import QemuImg
from machine.qemu.probe import find_qemu, probe_hardware, probe_qemu
from machine.report import Reporter
from machine.store.paths import config_home

# More than any guest has memory for; zram keeps a table of the size of the swap.
_MAX_SWAP_MIB = 1024 * 1024


def checked_name(request: InitRequest, context: Context) -> tuple[str, Provider]:
    """Check the new machine's name and provider, and return both.

    Raises:
        BadInputError: the name is invalid, or there is no such provider.
    """
    name = DEFAULT_MACHINE if request.name is None else request.name
    check_name_form(name)
    if provider := request.provider or context.environment.get(PROVIDER_VARIABLE):
        chosen = parse_provider(provider)
    else:
        chosen = Provider.QEMU
    check_machine_name(name)
    return name, chosen


def check_unused(name: str, registration: ClientRegistration, context: Context) -> None:
    """Check that neither a machine nor a client's connection has this name.

    Raises:
        BadInputError: a machine or a connection has this name.
    """
    if context.roots.machine(name).directory.exists():
        raise BadInputError(
            f'machine "{name}" already exists', hint=f"start it with: machine start {name}, or choose another name"
        )
    registration.check_free(name)


def choose_provisioning(requested: Provisioning | None, image: ImageRequest) -> Provisioning:
    """Return how a guest that is made from this image is provisioned.

    If the image is in the catalogue, the catalogue says which provisioning the image needs. Images from a stream need
    Ignition. For any other image, the user's `requested` provisioning is used, or else Ignition.

    Raises:
        BadInputError: guests of this image have to be provisioned in another way than the user has `requested`.
    """
    match image.source:
        case CatalogueImage(provisioning=provisioning):
            known = provisioning
        case StreamReference():
            known = Provisioning.IGNITION
        case _:
            return requested or Provisioning.IGNITION
    if requested not in (None, known):
        raise BadInputError(
            f"guests of the image {image.reference} are provisioned by {known}", hint="leave out --provisioning"
        )
    return known


def guest_arch(requested: str | None, host: Host) -> Arch:
    """Return the architecture that the user has `requested`, by default the host's.

    Raises:
        BadInputError: guests cannot have the requested architecture.
        MachineError: guests cannot have the host's architecture.
    """
    if requested is not None:
        return parse_arch(requested)
    try:
        return Arch.parse(host.machine)
    except ValueError as error:
        raise MachineError(
            f"this host's architecture, {host.machine}, is not supported for guests",
            hint=f"choose one with --arch: {', '.join(Arch)}",
        ) from error


def check_host(arch: Arch, choice: AcceleratorChoice, context: Context, report: Reporter) -> None:
    """Check, before anything is fetched, that this host has QEMU and firmware for guests of this architecture.

    Raises:
        MachineError: QEMU or the firmware is missing, or the chosen accelerator never runs such guests on this host.
    """
    host = context.host
    qemu = probe_qemu(find_qemu(arch, host), patience=start_patience(context))
    check_qemu(qemu, arch, host)
    # An accelerator that does not work now may work by the time the machine is started.
    hypervisor = HardwareSupport(accelerator=host.os.traits.accelerator, obstacle=None)
    acceleration = choose_accelerator(choice, arch, host, hypervisor, qemu)
    find_firmware(arch, host, binary=qemu.path, config_home=config_home(context.environment, context.home))
    notice = acceleration.notice
    if not notice and choice is not AcceleratorChoice.AUTO:
        notice = early_notice(choice, probe_hardware(host, qemu))
    if notice:
        report.notice(notice)


def check_image_arch(base: BaseImage, arch: Arch) -> None:
    """If an image comes from a stream, check that the image is for this architecture.

    The architecture of any other image is unknown until the guest boots.

    Raises:
        BadInputError: the image is for guests of another architecture.
    """
    if base.stream and base.arch != arch:
        raise BadInputError(
            f"the image {base.stream} {base.release} is for {base.arch}, but the machine would be {arch}",
            hint=f"use --arch {base.arch}, or an image for {arch}",
        )


def check_swap(swap_mib: int, provisioning: Provisioning) -> None:
    """Check that the amount of swap is not negative, and that it is 0 for a guest that cannot have swap.

    Raises:
        BadInputError: the amount is negative or absurdly large, or is more than 0 although the guest is provisioned by
            cloud-init.
    """
    if swap_mib < 0:
        raise BadInputError(f"requested amount of swap ({swap_mib} MB) must be at least 0 MB")
    if swap_mib > _MAX_SWAP_MIB:
        raise BadInputError(f"requested amount of swap ({swap_mib} MB) must be at most {_MAX_SWAP_MIB} MB")
    if swap_mib and provisioning is Provisioning.CLOUD_INIT:
        raise BadInputError("a guest that is provisioned by cloud-init cannot have swap", hint="leave out --swap")


def check_disk_holds(base: BaseImage, disk_gib: int) -> None:
    """Check that a disk of this size is large enough for the image.

    Raises:
        BadInputError: the disk would be too small.
    """
    needed = QemuImg().virtual_size(base.path)
    if disk_gib * GIB < needed:
        raise BadInputError(
            f"requested disk size ({disk_gib} GB) is smaller than the image ({-(-needed // GIB)} GB)",
            hint="give a larger --disk-size",
        )
