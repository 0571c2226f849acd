"""The actions that `lifecycle.step` can request of a supervisor. They are values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass

from machine.supervisor.diagnosis import Diagnosis
from machine.supervisor.phases import Phase


@dataclass(frozen=True, kw_only=True)
class Connect:
    """End the current SSH master, if there is one, and start a new SSH master after `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, kw_only=True)
class Disconnect:
    """End the SSH master."""


@dataclass(frozen=True, kw_only=True)
class MountFolders:
    """Tell the guest, over the SSH master, to mount the folders of the machine."""


@dataclass(frozen=True, kw_only=True)
class ProbeApi:
    """After `after_s` seconds, send a ping to Podman over each of the machine's two API sockets on this host."""

    after_s: float


@dataclass(frozen=True, kw_only=True)
class QuietPodman:
    """Stop asking the Podman sockets. With `in_guest`, stop the guest from starting a Podman that fails every time."""

    in_guest: bool


@dataclass(frozen=True, kw_only=True)
class SetGuestClock:
    """Set the guest's clock over the SSH master. With `tests_master`, a failure counts as the loss of the master."""

    tests_master: bool


@dataclass(frozen=True, kw_only=True)
class ReportUp:
    """Report to the waiting `machine start` that the machine is up."""


@dataclass(frozen=True, kw_only=True)
class SaveMemory:
    """Save the guest's memory, and end QEMU. With `if_idle`, let the guest run on if a client comes meanwhile."""

    if_idle: bool = False


@dataclass(frozen=True, kw_only=True)
class LoadMemory:
    """Wait until QEMU has loaded the guest's memory, and let the guest run on."""


@dataclass(frozen=True, kw_only=True)
class PowerDown:
    """Shut the guest down by pressing its power button. With `at_once`, end QEMU without shutting the guest down."""

    at_once: bool


@dataclass(frozen=True, kw_only=True)
class FailStart:
    """End the machine, and report to the waiting `machine start` that the start has failed. `cause` says why."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class RefuseAdoption:
    """Report to the waiting `machine start` that the guest cannot be reached. `cause` says why.

    The guest keeps running.
    """

    cause: str


@dataclass(frozen=True, kw_only=True)
class ExamineGuest:
    """Ask the guest what is wrong with it.

    `GuestExamined` follows if the guest answers. If `deadline` is given, its deadline has passed, and `GuestExamined`
    always follows.
    """

    deadline: Phase | None = None


@dataclass(frozen=True, kw_only=True)
class RenewDeadline:
    """Give the current phase its whole time again, counted from now."""


@dataclass(frozen=True, kw_only=True)
class LeaveDegraded:
    """Report to the waiting `machine start` that the guest answers over SSH, but its start has failed.

    The guest keeps running.
    """

    cause: str
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, kw_only=True)
class Finish:
    """End the supervisor, because QEMU has ended."""


Action = (
    Connect
    | Disconnect
    | MountFolders
    | ProbeApi
    | QuietPodman
    | SetGuestClock
    | ReportUp
    | SaveMemory
    | LoadMemory
    | PowerDown
    | FailStart
    | RefuseAdoption
    | ExamineGuest
    | RenewDeadline
    | LeaveDegraded
    | Finish
)
