"""What a machine may have of its host; texts as podman has them."""

from __future__ import annotations

from collections.abc import Sequence

from machine.errors import BadInputError
from machine.model.arch import Arch
from machine.model.config import MAX_DISK_GIB, MIN_MEMORY_MIB
from machine.model.host import Host
from machine.qemu.boards import BOARDS


def checked_memory(memory: int, host: Host) -> int:
    """The memory itself, in MiB.

    Raises:
        BadInputError: more than the host has, or less than a guest needs.
    """
    if memory > host.memory_mib:
        raise BadInputError(
            f"requested amount of memory ({memory} MB) greater than total system memory ({host.memory_mib} MB)"
        )
    if memory < MIN_MEMORY_MIB:
        raise BadInputError(f"requested amount of memory ({memory} MB) must be at least {MIN_MEMORY_MIB} MB")
    return memory


def checked_cpus(cpus: int, host: Host) -> int:
    """The number itself.

    Raises:
        BadInputError: more than the host has, or none.
    """
    if cpus > host.cpus:
        raise BadInputError(f"requested number of CPUs ({cpus}) greater than number of host CPUs ({host.cpus})")
    if cpus < 1:
        raise BadInputError(f"requested number of CPUs ({cpus}) must be at least 1")
    return cpus


def checked_disk(disk: int) -> int:
    """The size itself, in GiB.

    Raises:
        BadInputError: more than an image can have, or nothing.
    """
    if not 1 <= disk <= MAX_DISK_GIB:
        raise BadInputError(f"requested disk size ({disk} GB) must be between 1 and {MAX_DISK_GIB} GB")
    return disk


def check_usbs(usbs: Sequence[str], arch: Arch) -> None:
    """Raises:
    BadInputError: there are some, and such guests can have none.
    """
    if usbs and not BOARDS[arch].has_usb:
        raise BadInputError(f"guests of {arch} have no USB", hint="leave out --usb")
