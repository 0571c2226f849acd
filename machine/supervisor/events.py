"""The events that a machine's supervisor reacts to. They are values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from machine.supervisor.diagnosis import Diagnosis, PodmanHealth
from machine.supervisor.phases import Phase


class PauseCause(StrEnum):
    """Why the guest's CPUs are stopped."""

    REQUESTED = "requested"
    DISK_FULL = "disk full"

    @property
    def reason(self) -> str | None:
        """The text that tells users why the guest is paused. None if the user has requested the pause."""
        return {
            PauseCause.REQUESTED: None,
            PauseCause.DISK_FULL: "the host's disk is full; the guest resumes when there is space",
        }[self]

    def remedy(self, name: str) -> str:
        """Return what the user can do so that the guest of this machine goes on."""
        return {
            PauseCause.REQUESTED: f"continue it as it was paused, or end it with: machine kill {name}",
            PauseCause.DISK_FULL: "free space on this host; the guest then goes on by itself",
        }[self]

    @property
    def explanation(self) -> str:
        return "the guest is paused" + (f": {self.reason}" if self.reason else "")


class SshSilence(StrEnum):
    """Why the guest's SSH server does not greet a connection."""

    REFUSED = "refused"
    SILENT = "silent"
    CLOSED = "closed"

    @property
    def text(self) -> str:
        return {
            SshSilence.REFUSED: "the SSH server refuses connections",
            SshSilence.SILENT: "the SSH server does not answer",
            SshSilence.CLOSED: "nothing listens on the machine's SSH port",
        }[self]


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
    """The socket of QEMU's monitor was removed. If QEMU is adopted, it cannot be reached by QMP."""


@dataclass(frozen=True, kw_only=True)
class QemuExited:
    """QEMU has ended. `cause` says how QEMU failed, with its last message. After a normal exit, `cause` is None."""

    cause: str | None = None


@dataclass(frozen=True, kw_only=True)
class GuestReady:
    """The guest has booted. `boot_id` is the boot ID of the guest's kernel, or None if the guest has not told it."""

    boot_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class GuestReset:
    """The guest has begun to reboot."""


@dataclass(frozen=True, kw_only=True)
class GuestFailed:
    """The guest's console, Ignition's journal, or a report of the guest shows that the guest cannot come up."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class GuestPanicked:
    """The guest's console shows that its kernel has panicked. `message` is what the kernel says."""

    message: str


@dataclass(frozen=True, kw_only=True)
class ProgramKilled:
    """The guest's console shows that its kernel has killed a program, because no memory was left."""

    program: str


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
    """The guest's clock has been set to the time of the host's clock."""


@dataclass(frozen=True, kw_only=True)
class MasterUp:
    """The SSH master has logged in to the guest, and listens for its forwards."""


@dataclass(frozen=True, kw_only=True)
class MasterLost:
    """The SSH master has ended, or could not connect to the guest."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class SshUnanswered:
    """While a new SSH master waits for it, the guest's SSH server has not greeted a connection."""

    cause: SshSilence


@dataclass(frozen=True, kw_only=True)
class MountAttempted:
    """The guest has tried to mount its folders, or has no folders. Failures are reported by `FoldersChanged`."""


@dataclass(frozen=True, kw_only=True)
class FoldersChanged:
    """A folder has been mounted in the guest, or unmounted, or could not be mounted.

    `problem` says why a folder is not mounted. It is None when all folders are mounted.
    """

    problem: str | None


@dataclass(frozen=True, kw_only=True)
class ForwardsChanged:
    """A forward has been opened or closed, or could not be opened.

    `problem` says why a forward cannot be opened. It is None when all forwards are open.
    """

    problem: str | None


@dataclass(frozen=True, kw_only=True)
class ApiAnswered:
    """Podman has answered on both of the machine's API sockets."""


@dataclass(frozen=True, kw_only=True)
class ApiFailed:
    """Podman has not answered on one of the machine's API sockets."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class GuestExamined:
    """The guest has reported its state."""

    diagnosis: Diagnosis | None
    """What is wrong with the guest; None if nothing is, or if it has not answered."""

    podman: PodmanHealth = PodmanHealth.UNKNOWN

    deadline: Phase | None = None
    """If the guest was asked because the deadline of a phase had passed, this phase; else None."""


@dataclass(frozen=True, kw_only=True)
class GuestUnanswering:
    """The guest was asked over the SSH master for its state, and has not answered in time."""


@dataclass(frozen=True, kw_only=True)
class DeadlinePassed:
    """The deadline of `phase` has passed, whether or not the machine is still in this phase."""

    phase: Phase


@dataclass(frozen=True, kw_only=True)
class SocketsLost:
    """The machine's sockets were removed, for example at a logout, and the supervisor has made new ones."""


@dataclass(frozen=True, kw_only=True)
class StopRequested:
    """A command or a signal requests that the machine stops. With `at_once`, the guest is not shut down first."""

    at_once: bool = False


@dataclass(frozen=True, kw_only=True)
class SuspendRequested:
    """A command requests that the guest's memory is saved and QEMU ends."""

    if_idle: bool = False
    """Whether the guest runs on if a client comes meanwhile."""


@dataclass(frozen=True, kw_only=True)
class SuspendFailed:
    """The guest runs on. The command that has requested the suspend has been told the reason."""

    changed: bool = True
    """Whether the guest's folders were unmounted and its SSH master may have ended. If not, all is as before."""

    is_in_use: bool = False
    """Whether the reason is that a client has come. Only the folders were unmounted then."""


@dataclass(frozen=True, kw_only=True)
class MemoryLoaded:
    """QEMU has loaded the guest's memory, and the guest runs on where it was suspended."""


@dataclass(frozen=True, kw_only=True)
class StopFailed:
    """The machine could not be stopped. The command that has requested the stop has been told the reason."""


@dataclass(frozen=True, kw_only=True)
class CleanedUp:
    """A failed start has been cleaned up. Either QEMU has ended, or the supervisor could not kill it."""


Event = (
    QemuUp
    | QemuSilent
    | QemuAnswered
    | MonitorLost
    | QemuExited
    | GuestReady
    | GuestReset
    | GuestFailed
    | GuestPanicked
    | ProgramKilled
    | Paused
    | Resumed
    | HostClockJumped
    | GuestClockSet
    | MasterUp
    | MasterLost
    | SshUnanswered
    | MountAttempted
    | FoldersChanged
    | ForwardsChanged
    | ApiAnswered
    | ApiFailed
    | GuestExamined
    | GuestUnanswering
    | DeadlinePassed
    | SocketsLost
    | StopRequested
    | StopFailed
    | SuspendRequested
    | SuspendFailed
    | MemoryLoaded
    | CleanedUp
)
