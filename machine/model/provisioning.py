"""How a guest learns at its first boot which machine it is."""

from __future__ import annotations

from enum import StrEnum


class Provisioning(StrEnum):
    IGNITION = "ignition"
    CLOUD_INIT = "cloud-init"
    """By a seed disk, as cloud-init's data source NoCloud has it."""

    @property
    def fetches_s(self) -> float:
        """Seconds that a first boot may wait for a mirror of packages, which is no quicker on a quick host."""
        return {Provisioning.IGNITION: 0.0, Provisioning.CLOUD_INIT: 900.0}[self]
