"""What a supervisor does when something happens: a pure function of a state and an event.

::

    LAUNCH ──QemuUp──▶ BOOT ──GuestReady──▶ SSH ──MasterUp──▶ FOLDERS ──FoldersTold──▶ API ──ApiAnswered──▶ UP
                        ▲                   ▲ │                  │                       │                   │
                        └── GuestReset ─────┼─┴── MasterLost ────┴───────────────────────┴───────────────────┘

A start has succeeded when UP is reached for the first time. Before that, a failure ends the machine; after
it, the machine is degraded until UP is reached again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from machine.model.state import MachineState, State


class Phase(StrEnum):
    LAUNCH = "launch"
    BOOT = "boot"
    SSH = "ssh"
    FOLDERS = "folders"
    API = "api"
    UP = "up"

    @property
    def waits_for(self) -> str:
        return {
            Phase.LAUNCH: "QEMU to answer",
            Phase.BOOT: "the guest to boot",
            Phase.SSH: "the guest's SSH server",
            Phase.FOLDERS: "the guest to mount the host's folders",
            Phase.API: "the Podman API",
            Phase.UP: "nothing",
        }[self]

    def deadline_s(self, time_scale: int, *, fetches_s: float = 0.0) -> float:
        """Seconds that the phase may take in a start; QEMU itself is as quick under every accelerator, and so are the
        mirrors from which the guest fetches what it lacks.
        """
        return {
            Phase.LAUNCH: 30.0,
            Phase.BOOT: 120.0 * time_scale + fetches_s,
            Phase.SSH: 30.0 * time_scale,
            Phase.FOLDERS: 30.0 * time_scale,
            Phase.API: 60.0 * time_scale,
            Phase.UP: float("inf"),
        }[self]


@dataclass(frozen=True, kw_only=True)
class QemuUp:
    """QMP has greeted."""


@dataclass(frozen=True, kw_only=True)
class GuestReady:
    boot_id: str


@dataclass(frozen=True, kw_only=True)
class GuestReset:
    """The guest reboots."""


@dataclass(frozen=True, kw_only=True)
class GuestFailed:
    """The guest cannot come up, by what its console or Ignition's journal says."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class MasterUp:
    """The SSH master has logged in and forwards."""


@dataclass(frozen=True, kw_only=True)
class MasterLost:
    reason: str


@dataclass(frozen=True, kw_only=True)
class FoldersTold:
    """The guest has been asked to mount the host's folders, or there are none."""


@dataclass(frozen=True, kw_only=True)
class FoldersChanged:
    """`problem` is why one of the host's folders is not in the guest, empty where all are."""

    problem: str


@dataclass(frozen=True, kw_only=True)
class ApiAnswered:
    pass


@dataclass(frozen=True, kw_only=True)
class ApiFailed:
    reason: str


@dataclass(frozen=True, kw_only=True)
class DeadlinePassed:
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class Paused:
    """The guest's CPUs stand; `reason` is empty where somebody wanted that."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    pass


@dataclass(frozen=True, kw_only=True)
class QemuSilent:
    """QMP gives no answer, as when QEMU is stopped by a signal."""


@dataclass(frozen=True, kw_only=True)
class QemuAnswered:
    """QMP has answered."""


@dataclass(frozen=True, kw_only=True)
class HostClockJumped:
    """The host has slept, or its clock has been set."""


@dataclass(frozen=True, kw_only=True)
class GuestClockSet:
    pass


@dataclass(frozen=True, kw_only=True)
class ForwardsFailed:
    """A forward cannot be opened, and why; None when all of them can."""

    reason: str | None


@dataclass(frozen=True, kw_only=True)
class SocketsLost:
    """The runtime directory has been removed, as at a logout, and has been made anew."""


@dataclass(frozen=True, kw_only=True)
class StopRequested:
    """`at_once`: as pulling the plug does."""

    at_once: bool = False


@dataclass(frozen=True, kw_only=True)
class QemuExited:
    """`cause` is what QEMU said last, empty when it ended as it should."""

    cause: str


Event = (
    QemuUp
    | GuestReady
    | GuestReset
    | GuestFailed
    | MasterUp
    | MasterLost
    | FoldersTold
    | FoldersChanged
    | ApiAnswered
    | ApiFailed
    | DeadlinePassed
    | Paused
    | Resumed
    | QemuSilent
    | QemuAnswered
    | HostClockJumped
    | GuestClockSet
    | ForwardsFailed
    | SocketsLost
    | StopRequested
    | QemuExited
)


@dataclass(frozen=True, kw_only=True)
class Connect:
    """Start an SSH master after so many seconds, in place of any that there is."""

    after_s: float


@dataclass(frozen=True, kw_only=True)
class Disconnect:
    """End the SSH master."""


@dataclass(frozen=True, kw_only=True)
class MountFolders:
    """Have the guest mount the host's folders, over the SSH master."""


@dataclass(frozen=True, kw_only=True)
class ProbeApi:
    after_s: float


@dataclass(frozen=True, kw_only=True)
class SetGuestClock:
    """Over the SSH master; one that is in `doubt` is lost if that fails."""

    doubt: bool


@dataclass(frozen=True, kw_only=True)
class Announce:
    """Tell who waits that the machine is up."""


@dataclass(frozen=True, kw_only=True)
class PowerDown:
    at_once: bool


@dataclass(frozen=True, kw_only=True)
class Fail:
    """End the machine and tell who waits why."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """Tell who waits that the machine does not come up for now; its guest is kept: it had been up before."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Nothing is left to supervise."""


Action = Connect | Disconnect | MountFolders | ProbeApi | SetGuestClock | Announce | PowerDown | Fail | Refuse | Finish

# Together with ssh's own patience this bounds how long a guest that can be reached again is not.
_RETRY_S = (0.5, 1.0, 2.0)
_API_RETRY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Life:
    """`announced` is set once UP has been reached, `awaited` while somebody waits for that.

    `paused` is why the guest's CPUs stand, None while they run. `failures` counts the SSH masters lost since the API
    last answered. `clock_due` is set from a gap in the guest's time until its clock has been set. `unforwarded` is why
    a forward cannot be opened, None where all are; `unmounted` why one of the host's folders is not in the guest,
    empty where all are.
    """

    phase: Phase = Phase.LAUNCH
    announced: bool = False
    awaited: bool = True
    stopping: bool = False
    paused: str | None = None
    silent: bool = False
    clock_due: bool = False
    failures: int = 0
    unforwarded: str | None = None
    unmounted: str = ""
    reason: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What a machine lacks that is up."""
        return tuple(filter(None, (self.unforwarded, self.unmounted)))

    @property
    def state(self) -> MachineState:
        if self.stopping:
            return MachineState(state=State.STOPPING)
        if self.paused is not None:
            return MachineState(state=State.PAUSED, reason=self.paused)
        if not self.announced:
            return MachineState(state=State.STARTING)
        if self.silent:
            return MachineState(state=State.DEGRADED, reason="QEMU does not answer")
        reason = next(iter(self.problems), "") if self.phase is Phase.UP else self.reason
        if self.phase is Phase.UP and not reason:
            return MachineState(state=State.RUNNING)
        return MachineState(state=State.DEGRADED, reason=reason)


ADOPTED = Life(phase=Phase.SSH, announced=True, reason="the supervisor had ended")
"""A guest that has outlived another supervisor."""


def step(life: Life, event: Event) -> tuple[Life, tuple[Action, ...]]:  # noqa: C901, PLR0911, PLR0912  (a table)
    match event:
        case QemuExited(cause=cause):
            if life.announced or life.stopping:
                return life, (Disconnect(), Finish())
            return _fail(life, cause or "the guest powered itself off")
        case StopRequested(at_once=at_once):
            if life.stopping and not at_once:
                return life, ()
            return replace(life, stopping=True), (PowerDown(at_once=at_once),)
        case _ if life.stopping:
            return life, ()
        case Paused(reason=reason):
            return replace(life, paused=reason), ()
        case Resumed():
            return _after_gap(replace(life, paused=None))
        case QemuSilent():
            return replace(life, silent=True), ()
        case QemuAnswered():
            return _after_gap(replace(life, silent=False)) if life.silent else (life, ())
        case HostClockJumped():
            return _after_gap(life)
        case GuestClockSet():
            return replace(life, clock_due=False), ()
        case ForwardsFailed(reason=reason):
            return replace(life, unforwarded=reason), ()
        case SocketsLost():
            if life.phase in (Phase.LAUNCH, Phase.BOOT):
                return life, ()
            return replace(life, phase=Phase.SSH, reason="its sockets had been removed"), (Connect(after_s=0),)
        case QemuUp():
            return (replace(life, phase=Phase.BOOT), ()) if life.phase is Phase.LAUNCH else (life, ())
        case GuestReady():
            return replace(life, phase=Phase.SSH), (Connect(after_s=0),)
        case GuestReset():
            return replace(life, phase=Phase.BOOT, failures=0, reason="the guest is rebooting"), (Disconnect(),)
        case GuestFailed(cause=cause):
            if life.announced:
                return replace(life, reason=cause), ()
            return _fail(life, cause)
        case DeadlinePassed(phase=phase):
            if not life.awaited or phase is not life.phase:
                return life, ()
            last = f" (last: {life.reason})" if life.reason else ""
            cause = f"timed out waiting for {phase.waits_for}{last}"
            if life.announced:
                return replace(life, awaited=False), (Refuse(cause=cause),)
            return _fail(life, cause)
        case MasterUp():
            return replace(life, phase=Phase.FOLDERS), (
                MountFolders(),
                *([SetGuestClock(doubt=False)] if life.clock_due else []),
            )
        case FoldersTold():
            if life.phase is not Phase.FOLDERS:
                return life, ()
            return replace(life, phase=Phase.API), (ProbeApi(after_s=0),)
        case FoldersChanged(problem=problem):
            return replace(life, unmounted=problem), ()
        case MasterLost(reason=reason):
            if life.phase is Phase.BOOT:
                return life, ()
            retry = _RETRY_S[min(life.failures, len(_RETRY_S) - 1)]
            lost = replace(life, phase=Phase.SSH, failures=life.failures + 1, reason=f"SSH connection lost: {reason}")
            # A guest that stands still answers nobody, and every attempt would be waiting for it when it goes on.
            return lost, () if life.silent or life.paused is not None else (Connect(after_s=retry),)
        case ApiAnswered():
            if life.phase is not Phase.API:
                return life, ()
            up = replace(life, phase=Phase.UP, announced=True, awaited=False, failures=0, reason="")
            return up, ((Announce(),) if life.awaited else ())
        case ApiFailed(reason=reason):
            if life.phase is not Phase.API:
                return life, ()
            return replace(life, reason=f"Podman API: {reason}"), (ProbeApi(after_s=_API_RETRY_S),)
        case _:
            assert_never(event)


def _after_gap(life: Life) -> tuple[Life, tuple[Action, ...]]:
    """The guest's clock is behind; setting it shows whether its connections have outlived the gap."""
    if not life.announced:
        return life, ((Connect(after_s=0),) if life.phase is Phase.SSH else ())
    life = replace(life, clock_due=True)
    match life.phase:
        case Phase.FOLDERS | Phase.API | Phase.UP:
            return life, (SetGuestClock(doubt=True),)
        case Phase.SSH:
            return life, (Connect(after_s=0),)
        case _:
            return life, ()


def _fail(life: Life, cause: str) -> tuple[Life, tuple[Action, ...]]:
    """The first cause is the one to tell: what follows, QEMU's end above all, is its consequence."""
    return replace(life, stopping=True), (Fail(cause=cause),)
