"""The events that a machine's supervisor reacts to. They are values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from machine.supervisor.phases import Phase


class PauseCause(StrEnum):
    """Why the guest's CPUs are stopped."""

    REQUESTED = "requested"
    DISK_FULL = "disk full"

    @property
    def reason(self) -> str | None:
        """What to tell the user about the pause, or None if the user requested it."""
        return {
            PauseCause.REQUESTED: None,
            PauseCause.DISK_FULL: "the host's disk is full; the guest resumes when there is space",
        }[self]

    @property
    def explanation(self) -> str:
        return "the guest is paused" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, kw_only=True)
class QemuUp:
    """QEMU has sent its greeting on the QMP socket."""


@dataclass(frozen=True, kw_only=True)
class QemuSilent:
    """QEMU does not answer on the QMP socket, for example because a signal has stopped it."""


@dataclass(frozen=True, kw_only=True)
class QemuAnswered:
    """QEMU has answered on the QMP socket."""


@dataclass(frozen=True, kw_only=True)
class MonitorLost:
    """The socket of QEMU's monitor was removed, so that a QEMU that is adopted cannot be reached by QMP."""


@dataclass(frozen=True, kw_only=True)
class QemuExited:
    """QEMU has ended. `cause` is QEMU's last message, or None after a normal end."""

    cause: str | None = None


@dataclass(frozen=True, kw_only=True)
class GuestReady:
    """The guest has booted. `boot_id` is the boot ID of its kernel; None if the guest did not tell."""

    boot_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class GuestReset:
    """The guest has begun to reboot."""


@dataclass(frozen=True, kw_only=True)
class GuestFailed:
    """The guest cannot come up, according to its console, Ignition's journal or its own report."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class Paused:
    """The guest's CPUs have stopped."""

    cause: PauseCause = PauseCause.REQUESTED


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """The guest's CPUs run again."""


@dataclass(frozen=True, kw_only=True)
class HostClockJumped:
    """The host has slept, or its clock has been set."""


@dataclass(frozen=True, kw_only=True)
class GuestClockSet:
    """The guest's clock agrees with the host's again."""


@dataclass(frozen=True, kw_only=True)
class MasterUp:
    """The SSH master has logged in, and its forwards work."""


@dataclass(frozen=True, kw_only=True)
class MasterLost:
    """The SSH master has ended, or could not connect."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class MountAttempted:
    """The guest has tried to mount the host's folders, or has none to mount. `FoldersChanged` reports failures."""


@dataclass(frozen=True, kw_only=True)
class FoldersChanged:
    """The mounts of folders have changed.

    `problem` says why a folder is not mounted, and is None when all are mounted.
    """

    problem: str | None


@dataclass(frozen=True, kw_only=True)
class ForwardsChanged:
    """The forwards have changed. `problem` says why a forward cannot be opened, and is None when all are open."""

    problem: str | None


@dataclass(frozen=True, kw_only=True)
class ApiAnswered:
    """Both Podman sockets have answered."""


@dataclass(frozen=True, kw_only=True)
class ApiFailed:
    """A Podman socket has not answered."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class DeadlinePassed:
    """A phase of a start has exceeded its deadline."""

    phase: Phase


@dataclass(frozen=True, kw_only=True)
class SocketsLost:
    """The runtime directory was removed, as happens at a logout, and the sockets have been made anew."""


@dataclass(frozen=True, kw_only=True)
class StopRequested:
    """The machine is to stop. `at_once` is like pulling the plug."""

    at_once: bool = False


@dataclass(frozen=True, kw_only=True)
class StopFailed:
    """The machine does not stop. The command that asked for it has been told why."""


@dataclass(frozen=True, kw_only=True)
class CleanedUp:
    """The processes of a failed start have ended, or could not be killed."""


Event = (
    QemuUp
    | QemuSilent
    | QemuAnswered
    | MonitorLost
    | QemuExited
    | GuestReady
    | GuestReset
    | GuestFailed
    | Paused
    | Resumed
    | HostClockJumped
    | GuestClockSet
    | MasterUp
    | MasterLost
    | MountAttempted
    | FoldersChanged
    | ForwardsChanged
    | ApiAnswered
    | ApiFailed
    | DeadlinePassed
    | SocketsLost
    | StopRequested
    | StopFailed
    | CleanedUp
)
