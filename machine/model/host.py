"""What this program needs to know of a host, as values that a test can make up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from machine.errors import BadInputError

ACCEL_VARIABLE = "MACHINE_ACCEL"


class HostOS(StrEnum):
    LINUX = "linux"
    MACOS = "darwin"

    @property
    def socket_path_limit(self) -> int:
        """Bytes that a Unix socket's path may have: sun_path less its closing zero byte."""
        return {HostOS.LINUX: 107, HostOS.MACOS: 103}[self]


class Accelerator(StrEnum):
    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"

    @property
    def time_scale(self) -> int:
        """How much longer than with hardware help a guest may take for anything."""
        return 10 if self is Accelerator.TCG else 1


class AcceleratorChoice(StrEnum):
    """What a person can ask for."""

    AUTO = "auto"
    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AcceleratorChoice | None:
        """What $MACHINE_ACCEL asks for.

        Raises:
            BadInputError: it holds no accelerator.
        """
        wanted = environment.get(ACCEL_VARIABLE)
        if not wanted:
            return None
        try:
            return cls(wanted)
        except ValueError as error:
            raise BadInputError(
                f'{ACCEL_VARIABLE}="{wanted}" is no accelerator', hint=f"choose one of: {', '.join(cls)}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Host:
    """The host's own architecture is a `uname -m` word: it need not be one that guests can have."""

    os: HostOS
    machine: str
    cpus: int
    memory_mib: int
