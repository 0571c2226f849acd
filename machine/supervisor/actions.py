"""What a supervisor can do about an event: the actions that `lifecycle.step` asks for. Values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Connect:
    """Start an SSH master after `after_s` seconds, replacing a current one."""

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
    """Set the guest's clock over the SSH master; with `tests_master`, a failure means that the master is lost."""

    tests_master: bool


@dataclass(frozen=True, kw_only=True)
class ReportUp:
    """Report to the command that waits for the start that the machine is up."""


@dataclass(frozen=True, kw_only=True)
class PowerDown:
    """End the guest: as its power button does, or `at_once`."""

    at_once: bool


@dataclass(frozen=True, kw_only=True)
class FailStart:
    """End the machine, and report the cause to the command that waits for the start."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class RefuseAdoption:
    """Report to the command that waits for the start that the guest cannot be reached; the guest keeps running."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class Finish:
    """End the supervisor: nothing is left to supervise."""


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
