"""Decide what a supervisor does about an event, given the machine's state (pure).

::

    LAUNCH ──QemuUp──▶ BOOT ──GuestReady──▶ SSH ──MasterUp──▶ FOLDERS ──MountAttempted──▶ API ──ApiAnswered──▶ UP
                        ▲                   ▲ │                  │                         │                    │
                        └── GuestReset ─────┼─┴── MasterLost ────┴─────────────────────────┴────────────────────┘

A start has succeeded when UP is reached for the first time. A failure before SSH answers ends the machine. After any
other failure, the machine is degraded until UP is reached, so that the user can look into the guest and mend it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from machine.supervisor.actions import (
    Action,
    Connect,
    Disconnect,
    ExamineGuest,
    FailStart,
    Finish,
    LeaveDegraded,
    LoadMemory,
    MountFolders,
    PowerDown,
    ProbeApi,
    QuietPodman,
    RefuseAdoption,
    RenewDeadline,
    ReportUp,
    SaveMemory,
    SetGuestClock,
)
from machine.supervisor.diagnosis import NO_ANSWER, GuestTrouble, PodmanHealth, out_of_memory
from machine.supervisor.events import (
    ApiAnswered,
    ApiFailed,
    CleanedUp,
    DeadlinePassed,
    Event,
    FoldersChanged,
    ForwardsChanged,
    GuestClockSet,
    GuestExamined,
    GuestFailed,
    GuestPanicked,
    GuestReady,
    GuestReset,
    GuestUnanswering,
    HostClockJumped,
    MasterLost,
    MasterUp,
    MemoryLoaded,
    MonitorLost,
    MountAttempted,
    Paused,
    ProgramKilled,
    QemuAnswered,
    QemuExited,
    QemuSilent,
    QemuUp,
    Resumed,
    SocketsLost,
    SshUnanswered,
    StopFailed,
    StopRequested,
    SuspendFailed,
    SuspendRequested,
)
from machine.supervisor.life import Life, panic_text
from machine.supervisor.phases import Phase

# These pauses and ssh's own timeouts delay the new connection to a guest that can be reached again.
_RETRY_S = (0.5, 1.0, 2.0)
_API_RETRY_S = 0.5

# A first boot that changes kernel arguments reboots itself before it goes on. A guest that does nothing but reboot must
# not get more time for ever.
_MAX_RENEWALS = 3


def step(life: Life, event: Event) -> tuple[Life, tuple[Action, ...]]:  # noqa: C901, PLR0911, PLR0912, PLR0915  (a table)
    """Return the state that follows from `life` after `event`, and the actions that the supervisor has to carry out."""
    match event:
        case QemuExited(cause=cause):
            if life.was_up or life.stopping:
                return life, (Disconnect(), Finish())
            return _fail(life, cause or "the guest powered itself off")
        case CleanedUp():
            return life, ((Disconnect(), Finish()) if life.stopping else ())
        case StopRequested(at_once=at_once):
            if life.stopping and not at_once:
                return life, ()
            return replace(life, stopping=True), (PowerDown(at_once=at_once),)
        case SuspendRequested(if_idle=if_idle):
            if life.stopping:
                return life, ()
            return replace(life, stopping=True, suspending=True), (SaveMemory(if_idle=if_idle),)
        case SuspendFailed():
            return _run_on(replace(life, stopping=False, suspending=False), event)
        case StopFailed():
            return replace(life, stopping=False), ()
        case _ if life.stopping:
            return life, ()
        case MonitorLost():
            return replace(life, monitor_lost=True), ()
        case MemoryLoaded():
            life = replace(life, was_up=True, clock_due=True)
            return _enter(life, Phase.SSH, "the guest has just resumed"), (Connect(after_s=0),)
        case Paused() | Resumed() if life.resumes and life.phase in (Phase.LAUNCH, Phase.RESUME):
            return life, ()  # the guest's CPUs wait for its memory
        case Paused(cause=pause):
            return _stand_still(replace(life, pause=pause))
        case Resumed():
            return _after_gap(replace(life, pause=None))
        case QemuSilent():
            return replace(life, silent=True), ()
        case QemuAnswered():
            return _after_gap(replace(life, silent=False)) if life.silent else (life, ())
        case HostClockJumped():
            return _after_gap(life)
        case GuestClockSet():
            mended = life.diagnosis and life.diagnosis.trouble is GuestTrouble.CLOCK_OFF
            return replace(life, clock_due=False, diagnosis=None if mended else life.diagnosis), ()
        case ForwardsChanged(problem=problem):
            return replace(life, forward_problem=problem), ()
        case FoldersChanged(problem=problem):
            return replace(life, folder_problem=problem), ()
        case SocketsLost():
            if life.phase in (Phase.LAUNCH, Phase.RESUME, Phase.BOOT):
                return life, ()
            return _enter(life, Phase.SSH, "its sockets were removed"), (Connect(after_s=0),)
        case QemuUp():
            life = replace(life, monitor_lost=False)
            if life.phase is not Phase.LAUNCH:
                return life, ()
            return (_enter(life, Phase.RESUME), (LoadMemory(),)) if life.resumes else (_enter(life, Phase.BOOT), ())
        case GuestReady():
            return _enter(replace(life, panic=None), Phase.SSH), (Connect(after_s=0),)
        case GuestReset():
            return _reset(life)
        case GuestFailed(cause=cause):
            return (replace(life, reason=cause), ()) if life.was_up else _fail(life, cause)
        case GuestPanicked(message=message):
            return _panicked(life, message)
        case ProgramKilled(program=program):
            return _killed(life, program)
        case DeadlinePassed(phase=phase):
            if not life.start_pending or phase is not life.phase:
                return life, ()
            return (life, (ExamineGuest(deadline=phase),)) if phase.is_after_ssh else _give_up(life)
        case GuestExamined():
            return _examined(life, event)
        case GuestUnanswering():
            known = life.phase is not Phase.UP or not life.may_answer or life.diagnosis
            return (life if known else replace(life, diagnosis=NO_ANSWER)), ()
        case MasterUp():
            return _enter(replace(life, panic=None), Phase.FOLDERS), (
                MountFolders(),
                *([SetGuestClock(tests_master=False)] if life.clock_due else []),
                *([ExamineGuest()] if life.diagnosis else []),  # the trouble may have ended meanwhile
            )
        case SshUnanswered(cause=cause):
            return (replace(life, reason=cause.text), ()) if life.phase is Phase.SSH else (life, ())
        case MasterLost(reason=reason):
            return _reconnect(life, reason) if life.phase is not Phase.BOOT else (life, ())
        case MountAttempted():
            if life.phase is not Phase.FOLDERS:
                return life, ()
            return _enter(life, Phase.API), (ProbeApi(after_s=0),)
        case ApiAnswered():
            if life.phase is not Phase.API:
                return life, ()
            up = replace(life, was_up=True, start_pending=False, failures=0, panic=None)
            return _enter(up, Phase.UP), ((ReportUp(),) if life.start_pending else ())
        case ApiFailed(reason=reason):
            if life.phase is not Phase.API:
                return life, ()
            if life.podman.is_bad:  # of a probe that has been cancelled since
                return life, ()
            return replace(life, reason=f"Podman API: {reason}"), (ProbeApi(after_s=_API_RETRY_S),)
        case _:
            assert_never(event)


def _enter(life: Life, phase: Phase, reason: str | None = None) -> Life:
    """Begin a phase. What was known of the phase before, such as its reason, is no longer true."""
    return replace(life, phase=phase, reason=reason, podman=PodmanHealth.UNKNOWN)


def _run_on(life: Life, event: SuspendFailed) -> tuple[Life, tuple[Action, ...]]:
    """Let a machine run on that could not be suspended. Events that have happened meanwhile were not heard."""
    if not event.changed:
        return _after_gap(life)
    if event.is_in_use:
        return _enter(life, Phase.FOLDERS, "a client has come just before the suspend"), (MountFolders(),)
    return _enter(replace(life, clock_due=True), Phase.SSH, "a suspend has failed"), (Connect(after_s=0),)


def _panicked(life: Life, message: str) -> tuple[Life, tuple[Action, ...]]:
    """Note that the console shows a panic. If a program in the guest has only quoted one, the guest still answers.

    A start that has not been up is ended by `GuestFailed`, which may know more.
    """
    if not life.was_up:
        return life, ()
    return replace(life, panic=message), ((ExamineGuest(),) if life.may_answer else ())


def _killed(life: Life, program: str) -> tuple[Life, tuple[Action, ...]]:
    """Note that the guest is out of memory. It is asked as soon as it answers, which may take it minutes."""
    if life.phase in (Phase.LAUNCH, Phase.RESUME, Phase.BOOT):
        return life, ()
    return replace(life, diagnosis=out_of_memory(program)), ((ExamineGuest(),) if life.may_answer else ())


def _reset(life: Life) -> tuple[Life, tuple[Action, ...]]:
    """Wait for the guest that has begun to reboot. If it reboots in its boot, give it its whole time again."""
    # QEMU may report one reset twice.
    panic = life.panic or (life.reboot_cause if life.phase is Phase.BOOT else None)
    cause = "" if panic is None else f", because {panic_text(panic)}"
    rebooting = _enter(
        replace(life, failures=0, diagnosis=None, panic=None, reboot_cause=panic),
        Phase.BOOT,
        f"the guest is rebooting{cause}",
    )
    if life.phase is Phase.BOOT and life.start_pending and life.boot_renewals < _MAX_RENEWALS:
        return replace(rebooting, boot_renewals=life.boot_renewals + 1), (Disconnect(), RenewDeadline())
    return rebooting, (Disconnect(),)


def _fail(life: Life, cause: str) -> tuple[Life, tuple[Action, ...]]:
    """End a start because of `cause`. Later failures are not reported, because `cause` is the reason for them all."""
    return replace(life, stopping=True), (FailStart(cause=cause),)


def _examined(life: Life, event: GuestExamined) -> tuple[Life, tuple[Action, ...]]:
    """Note the diagnosis of the guest, and act on it. Quiet Podman or ask it again, set the clock, or end a start."""
    if not life.phase.is_after_ssh:
        return life, ()
    before, life = life, replace(life, diagnosis=event.diagnosis)
    if event.deadline is None:  # else the guest may not have answered
        life = replace(life, panic=None)
    actions: tuple[Action, ...] = ()
    if event.podman.is_bad:
        if not before.podman.is_bad:
            life = _enter(life, Phase.API, "Podman fails in the guest")
        life = replace(life, podman=event.podman)
        if event.podman is not before.podman:
            actions = (QuietPodman(in_guest=event.podman is PodmanHealth.FAILING),)
    elif before.podman.is_bad:
        life = _enter(life, Phase.API)
        actions = (ProbeApi(after_s=0),)
    if event.diagnosis and event.diagnosis.trouble is GuestTrouble.CLOCK_OFF:
        actions += (SetGuestClock(tests_master=False),)
    if life.start_pending and (life.podman.is_bad or event.deadline is before.phase):
        life, failure = _give_up(life)
        actions += failure
    return life, actions


def _give_up(life: Life) -> tuple[Life, tuple[Action, ...]]:
    """End a start that does not succeed. A guest that was up before, or answers over SSH, keeps running."""
    last = f" (last: {life.reason})" if life.reason else ""
    cause = f"timed out waiting for {life.phase.waits_for}{last}"
    if life.phase.is_after_ssh:
        kept = replace(life, start_pending=False, was_up=True)
        if life.diagnosis:
            cause = life.diagnosis.text
        return kept, (LeaveDegraded(cause=cause, diagnosis=life.diagnosis),)
    if life.was_up:
        return replace(life, start_pending=False), (RefuseAdoption(cause=cause),)
    return _fail(life, cause)


def _stand_still(life: Life) -> tuple[Life, tuple[Action, ...]]:
    """If a `machine start` adopts a guest that is paused, report this instead of waiting for the end of the pause."""
    if not (life.start_pending and life.was_up and life.pause):
        return life, ()
    return replace(life, start_pending=False), (RefuseAdoption(cause=life.pause.explanation),)


def _reconnect(life: Life, reason: str) -> tuple[Life, tuple[Action, ...]]:
    """Start a new SSH master because one was lost.

    If QEMU or the guest's CPUs are stopped, wait until they run again. Otherwise, ever more masters would be waiting.
    """
    retry_s = _RETRY_S[min(life.failures, len(_RETRY_S) - 1)]
    text = f"SSH connection lost: {reason}" if life.phase.is_after_ssh else f"SSH connection failed: {reason}"
    lost = _enter(replace(life, failures=life.failures + 1), Phase.SSH, text)
    return lost, () if life.silent or life.pause is not None else (Connect(after_s=retry_s),)


def _after_gap(life: Life) -> tuple[Life, tuple[Action, ...]]:
    """Set the guest's clock, which is slow after a pause. Setting it also shows whether the SSH master still works."""
    if not life.was_up:
        return life, ((Connect(after_s=0),) if life.phase is Phase.SSH else ())
    life = replace(life, clock_due=True)
    match life.phase:
        case Phase.FOLDERS | Phase.API | Phase.UP:
            return life, (SetGuestClock(tests_master=True),)
        case Phase.SSH:
            return life, (Connect(after_s=0),)
        case _:
            return life, ()
