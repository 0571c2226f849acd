"""The actions that `lifecycle.step` can request of a supervisor. They are values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Connect:
    """After `after_s` seconds, start an SSH master in place of the current one, if any."""

    after_s: float


@dataclass(frozen=True, kw_only=True)
class Disconnect:
    """End the SSH master."""


@dataclass(frozen=True, kw_only=True)
class MountFolders:
    """Have the guest mount the host's folders, over the SSH master."""


@dataclass(frozen=True, kw_only=True)
class ProbeApi:
    """Ask both Podman sockets for an answer, after `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, kw_only=True)
class SetGuestClock:
    """Set the guest's clock over the SSH master. If `tests_master` is set, a failure means that the master is lost."""

    tests_master: bool


@dataclass(frozen=True, kw_only=True)
class ReportUp:
    """Report to the waiting `machine start` that the machine is up."""


@dataclass(frozen=True, kw_only=True)
class PowerDown:
    """Shut the guest down by its power button, or end it `at_once`."""

    at_once: bool


@dataclass(frozen=True, kw_only=True)
class FailStart:
    """End the machine, and report the cause to the waiting `machine start`."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class RefuseAdoption:
    """Report to the waiting `machine start` that the guest cannot be reached. The guest keeps running."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class Finish:
    """End the supervisor, because nothing is left to supervise."""


Action = (
    Connect
    | Disconnect
    | MountFolders
    | ProbeApi
    | SetGuestClock
    | ReportUp
    | PowerDown
    | FailStart
    | RefuseAdoption
    | Finish
)
