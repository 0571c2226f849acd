"""Describe a machine's record: what the user wants, what is still to be done, and what is known about the guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from machine.model.config import MachineConfig
from machine.model.dataclass import dataclass
from machine.model.transport import Transport


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Work that one command has begun, and that a later command must finish."""

    renamed_from: str | None = None
    """The machine's old name while its rename is under way."""

    rekey: bool = False
    """Whether the machine is a clone whose next start gives the guest its own host key, machine ID and host name."""

    scripts: bool = False
    """Whether the user's scripts and playbook still have to run in the guest."""

    guest_outdated: bool = False
    """Whether the config has changed in such a way that the next start must update the guest."""

    restoring: str | None = None
    """The name of the snapshot to which the machine is returning."""


@dataclass(frozen=True, kw_only=True)
class GuestFacts:
    """What is known about the guest."""

    provisioned: bool = False
    """Whether the guest has completed its first boot. From then on, the disk holds the user's data."""

    last_up: datetime | None = None
    """The last time at which the guest was known to be up. None before its first boot has completed."""

    transports: frozenset[Transport] | None = None
    """The transports by which the guest can mount folders; None if the guest has not been asked yet."""

    followed: str | None = None
    """A digest of the host's settings that the guest received last. None if the guest has not received any yet."""

    services: str | None = None
    """A digest of the services that start the guest's containers, as the guest has them. None if that is not known."""


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """All that is stored about a machine."""

    config: MachineConfig
    pending: Pending = Pending()
    guest: GuestFacts = GuestFacts()
    unknown: Mapping[str, object] = field(default_factory=dict)
    """The fields that a newer program has stored, as JSON, nested as in the record. They are kept as they are."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def fresh_disk_base(self) -> str | None:
        """The digest of the base image from which the next start makes a new disk, or None if the disk is kept.

        Until a first boot has completed, every start makes a new disk, because the disk holds no data of the user's
        yet.
        """
        return None if self.guest.provisioned else self.config.image.digest
