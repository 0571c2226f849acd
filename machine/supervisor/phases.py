"""The phases of a boot, what each waits for, and how long each may take."""

from __future__ import annotations

from enum import StrEnum

from machine.model.host import Accelerator


class Phase(StrEnum):
    """How far a boot has come. Each phase is named after what the supervisor is waiting for."""

    LAUNCH = "launch"
    RESUME = "resume"
    BOOT = "boot"
    SSH = "ssh"
    FOLDERS = "folders"
    API = "api"
    UP = "up"

    @property
    def waits_for(self) -> str:
        return {
            Phase.LAUNCH: "QEMU to answer",
            Phase.RESUME: "QEMU to load the guest's memory",
            Phase.BOOT: "the guest to boot",
            Phase.SSH: "the SSH server",
            Phase.FOLDERS: "the folders to be mounted",
            Phase.API: "the Podman API",
            Phase.UP: "nothing",
        }[self]

    @property
    def is_after_ssh(self) -> bool:
        """Whether the guest answers over SSH in this phase."""
        return self in (Phase.FOLDERS, Phase.API, Phase.UP)

    def is_told(self, *, has_folders: bool) -> bool:
        """Return whether a start tells that it has come to this phase. Without folders, their phase takes no time."""
        return self in (Phase.SSH, Phase.API) or (self is Phase.FOLDERS and has_folders)

    def deadline_s(self, accelerator: Accelerator, *, patience: int = 1, download_s: float = 0.0) -> float:
        """Return how many seconds the phase may take.

        What the guest does takes longer without hardware acceleration. `patience` multiplies all deadlines.
        `download_s` is the time for downloads of packages at the first boot.
        """
        scale = accelerator.time_scale
        return (
            patience
            * {
                Phase.LAUNCH: 30.0,
                Phase.RESUME: 300.0,
                Phase.BOOT: 120.0 * scale + download_s,
                Phase.SSH: 30.0 * scale,
                Phase.FOLDERS: 30.0 * scale,
                Phase.API: 60.0 * scale,
                Phase.UP: float("inf"),
            }[self]
        )
