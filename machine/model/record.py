"""A machine's record: what its user wants, what is still to be done, and what is known of its guest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from machine.model.config import MachineConfig
from machine.model.transport import Transport


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What a command has begun and a later one has to finish."""

    renamed_from: str | None = None
    """The machine's old name while its rename is under way."""

    rekey: bool = False
    """The guest is a clone's: its next start gives it host keys, a machine ID and a host name of its own."""

    scripts: bool = False
    """The user's scripts and playbook have not run in the guest yet."""

    guest_outdated: bool = False
    """The next start tells the guest what has changed in the config."""


@dataclass(frozen=True, kw_only=True)
class GuestFacts:
    """What has been learnt of the guest."""

    provisioned: bool = False
    """The first boot has completed: the disk holds the user's data."""

    last_up: datetime | None = None
    """When the guest was last known to be up; None before its first boot has completed."""

    transports: frozenset[Transport] | None = None
    """The transports by which the guest can mount folders; None before it has been asked."""

    followed: str | None = None
    """A digest of the host's settings that the guest has been told; None before it has been told any."""


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """All that is stored about a machine."""

    config: MachineConfig
    pending: Pending = Pending()
    guest: GuestFacts = GuestFacts()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def fresh_disk_base(self) -> str | None:
        """The digest of the base image that the next start makes a fresh disk from; None where it keeps the disk.

        A disk on which no first boot has completed holds nothing of the user's.
        """
        return None if self.guest.provisioned else self.config.image.digest
