"""Describe the virtual computer that QEMU was started with. A saved memory fits only an equal one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from machine.model.host import Accelerator


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the record does not say about a guest's virtual computer, because each cold start decides it anew."""

    machine_type: str | None = None
    """QEMU's name for one version of the machine type, like `pc-q35-7.2`, which a saved memory needs.

    None if the guest boots. QEMU then uses its newest version.
    """

    accelerator: Accelerator
    cpu: str
    """QEMU's CPU model, with its options."""

    host_cpu: str | None = None
    """The name of the host's CPU, which the guest sees. None if the guest is emulated, or if the name is unknown."""

    first_boot: bool
    """Whether the guest was given the config of its first boot."""

    rekey: bool
    """Whether the guest of a clone was given new keys."""

    folder_slots: int
    """How many slots there are for the devices that share folders."""

    shared_memory: bool
    """Whether virtiofsd can access the guest's memory."""

    keeps_folders: bool = False
    """Whether the memory was saved with the folders mounted, so that it needs the devices that share them."""

    @property
    def is_suspended(self) -> bool:
        """Whether there is a saved memory for this hardware."""
        return self.machine_type is not None

    @property
    def starts_with_folders(self) -> bool:
        """Whether QEMU starts with the devices that share folders. Otherwise they are plugged in after a resume."""
        return self.keeps_folders or not self.is_suspended


@dataclass(frozen=True, kw_only=True)
class DiskMark:
    """The size and the time of a disk file, by which it is noticed when something has written to the file."""

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, kw_only=True)
class Suspension:
    """What a resume must know about the guest's memory that a suspend has saved."""

    hardware: Hardware
    qemu: str
    """The version of the QEMU that has saved the memory, with dots."""

    disk: DiskMark | None
    """The mark of the disk file. None while we change the file, though not what the guest finds on the disk."""

    suspended: datetime

    memory: str | None = None
    """The mark of the saved memory. None until the memory is whole, or if an older program has saved it."""
