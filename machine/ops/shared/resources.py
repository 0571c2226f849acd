"""Check the CPUs, memory, disk and USB devices of a machine. The messages are podman's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from machine.errors import BadInputError, Page
from machine.model.arch import Arch
from machine.model.config import MAX_DISK_GIB, MIN_MEMORY_MIB, Resources
from machine.model.host import Host
from machine.model.settings import EffectiveSetting, settings_of
from machine.ops.shared.defaults import naming_source_of
from machine.qemu.boards import BOARDS


def check_resources(chosen: Mapping[str, EffectiveSetting], host: Host) -> Resources:
    """Check the CPUs, memory and disk size of a new machine, and return them.

    Raises:
        BadInputError: the machine would have more of something than the host has, or less than a guest needs.
    """
    settings = settings_of(chosen)
    with naming_source_of(chosen["memory"]):
        memory_mib = checked_memory(settings.memory, host)
    with naming_source_of(chosen["cpus"]):
        cpus = checked_cpus(settings.cpus, host)
    with naming_source_of(chosen["disk_size"]):
        disk_gib = checked_disk(settings.disk_size)
    return Resources(cpus=cpus, memory_mib=memory_mib, disk_gib=disk_gib)


def checked_memory(memory: int, host: Host) -> int:
    """Check an amount of memory in MiB, and return it.

    Raises:
        BadInputError: the amount is more than the host's memory, or less than a guest needs.
    """
    if memory > host.memory_mib:
        raise BadInputError(
            f"requested amount of memory ({memory} MB) greater than total system memory ({host.memory_mib} MB)",
            hint="choose less memory",
            page=Page.MEMORY,
        )
    if memory < MIN_MEMORY_MIB:
        raise BadInputError(f"requested amount of memory ({memory} MB) must be at least {MIN_MEMORY_MIB} MB")
    return memory


def checked_cpus(cpus: int, host: Host) -> int:
    """Check a number of CPUs, and return it.

    Raises:
        BadInputError: the number is more than the host has, or less than one.
    """
    if cpus > host.cpus:
        raise BadInputError(f"requested number of CPUs ({cpus}) greater than number of host CPUs ({host.cpus})")
    if cpus < 1:
        raise BadInputError(f"requested number of CPUs ({cpus}) must be at least 1")
    return cpus


def checked_disk(disk: int) -> int:
    """Check the size of a disk in GiB, and return it.

    Raises:
        BadInputError: the size is larger than a disk image can be, or smaller than 1 GiB.
    """
    if not 1 <= disk <= MAX_DISK_GIB:
        raise BadInputError(f"requested disk size ({disk} GB) must be between 1 and {MAX_DISK_GIB} GB")
    return disk


def check_usbs(usbs: Sequence[str], arch: Arch) -> None:
    """If `usbs` names any devices, check that guests of this architecture can have USB devices.

    Raises:
        BadInputError: guests of this architecture cannot have USB devices.
    """
    if usbs and not BOARDS[arch].has_usb:
        raise BadInputError(f"guests of {arch} cannot have USB devices", hint="leave out --usb")
