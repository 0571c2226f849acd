"""Describe a machine's record: what the user wants, what is still to be done, and what is known about the guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from machine.model.config import MachineConfig
from machine.model.transport import Transport


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What a command has begun and a later command must finish."""

    renamed_from: str | None = None
    """The machine's old name while its rename is under way."""

    rekey: bool = False
    """The machine is a clone. Its next start gives the guest host keys, a machine ID and a host name of its own."""

    scripts: bool = False
    """The user's scripts and playbook have not run in the guest yet."""

    guest_outdated: bool = False
    """The config has changed, so the next start must update the guest."""


@dataclass(frozen=True, kw_only=True)
class GuestFacts:
    """What is known about the guest."""

    provisioned: bool = False
    """The first boot has completed, so the disk holds the user's data."""

    last_up: datetime | None = None
    """When the guest was last known to be up; None before its first boot has completed."""

    transports: frozenset[Transport] | None = None
    """The transports by which the guest can mount folders; None if the guest has not been asked yet."""

    followed: str | None = None
    """A digest of the host's settings that the guest last received; None if it has not received any yet."""


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
