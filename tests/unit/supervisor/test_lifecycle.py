"""What a supervisor does when something happens, as a table: (state, event) -> (state, actions)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from machine.model.config import Provisioning
from machine.model.host import Accelerator
from machine.model.state import MachineState, State
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
from machine.supervisor.diagnosis import NO_ANSWER, Diagnosis, GuestTrouble, PodmanHealth
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
    PauseCause,
    Paused,
    ProgramKilled,
    QemuAnswered,
    QemuExited,
    QemuSilent,
    QemuUp,
    Resumed,
    SocketsLost,
    SshSilence,
    SshUnanswered,
    StopFailed,
    StopRequested,
    SuspendFailed,
    SuspendRequested,
)
from machine.supervisor.life import ADOPTED, Life
from machine.supervisor.lifecycle import step
from machine.supervisor.phases import Phase

LAUNCH = Life()
BOOT = Life(phase=Phase.BOOT)
SSH = Life(phase=Phase.SSH)
RESUME = Life(phase=Phase.RESUME, resumes=True)
RESUMED = replace(RESUME, phase=Phase.SSH, was_up=True, clock_due=True, reason="the guest has just resumed")
FOLDERS = Life(phase=Phase.FOLDERS)
API = Life(phase=Phase.API)
UP = Life(phase=Phase.UP, was_up=True, start_pending=False)
REBOOT = replace(UP, phase=Phase.BOOT, reason="the guest is rebooting")
LOST = replace(UP, phase=Phase.SSH, failures=1, reason="SSH connection lost: eof")
BACK = replace(UP, phase=Phase.API)
GAP = replace(UP, clock_due=True)
STOPPING = replace(UP, stopping=True)
SUSPENDING = replace(UP, stopping=True, suspending=True)

FULL = Diagnosis(trouble=GuestTrouble.DISK_FULL, text="the guest's disk is full")
MASKED = Diagnosis(trouble=GuestTrouble.PODMAN_CLOSED, text="podman.socket of core is masked in the guest")
LATE = Diagnosis(trouble=GuestTrouble.CLOCK_OFF, text="the guest's clock is 99 seconds behind")
LEFT = replace(API, start_pending=False, was_up=True)
CLOSED = replace(LEFT, podman=PodmanHealth.CLOSED, reason="Podman fails in the guest")
PANICKED = replace(UP, panic="Oops")
PAUSED = replace(UP, pause=PauseCause.REQUESTED)
UNANSWERING = replace(UP, diagnosis=NO_ANSWER)
KILLED = replace(
    UP,
    diagnosis=Diagnosis(trouble=GuestTrouble.OUT_OF_MEMORY, text="the guest is out of memory and has killed p"),
)
REBOOT_AFTER_PANIC = replace(
    REBOOT, reboot_cause="Oops", reason="the guest is rebooting, because the guest's kernel panicked: Oops"
)
FAILING = replace(LEFT, podman=PodmanHealth.FAILING, reason="Podman fails in the guest")

READY = GuestReady(boot_id="b")
EOF_ = MasterLost(reason="eof")
NOTHING: tuple[Action, ...] = ()

TABLE: dict[str, tuple[Life, Event, Life, tuple[Action, ...]]] = {
    "qemu greets": (LAUNCH, QemuUp(), BOOT, NOTHING),
    "qemu is to load the memory": (replace(LAUNCH, resumes=True), QemuUp(), RESUME, (LoadMemory(),)),
    "cpus wait for the memory": (RESUME, Paused(), RESUME, NOTHING),
    "cpus run when the memory is there": (RESUME, Resumed(), RESUME, NOTHING),
    "memory is loaded": (RESUME, MemoryLoaded(), RESUMED, (Connect(after_s=0),)),
    "memory is not loaded": (
        RESUME,
        QemuExited(cause="load of migration failed"),
        replace(RESUME, stopping=True),
        (FailStart(cause="load of migration failed"),),
    ),
    "resumed guest is reached": (
        RESUMED,
        MasterUp(),
        replace(RESUMED, phase=Phase.FOLDERS, reason=None),
        (MountFolders(), SetGuestClock(tests_master=False)),
    ),
    "suspend": (UP, SuspendRequested(), SUSPENDING, (SaveMemory(),)),
    "second suspend": (SUSPENDING, SuspendRequested(), SUSPENDING, NOTHING),
    "suspend is refused": (SUSPENDING, SuspendFailed(changed=False), GAP, (SetGuestClock(tests_master=True),)),
    "idle suspend": (UP, SuspendRequested(if_idle=True), SUSPENDING, (SaveMemory(if_idle=True),)),
    "client comes before an idle suspend": (
        SUSPENDING,
        SuspendFailed(is_in_use=True),
        replace(UP, phase=Phase.FOLDERS, reason="a client has come just before the suspend"),
        (MountFolders(),),
    ),
    "suspend fails": (
        SUSPENDING,
        SuspendFailed(),
        replace(UP, phase=Phase.SSH, clock_due=True, reason="a suspend has failed"),
        (Connect(after_s=0),),
    ),
    "guest is ready": (BOOT, READY, SSH, (Connect(after_s=0),)),
    "guest is ready before the greeting is seen": (LAUNCH, READY, SSH, (Connect(after_s=0),)),
    "greeting is seen after the guest was ready": (SSH, QemuUp(), SSH, NOTHING),
    "master forwards": (SSH, MasterUp(), FOLDERS, (MountFolders(),)),
    "guest has been told of folders": (FOLDERS, MountAttempted(), API, (ProbeApi(after_s=0),)),
    "late word of the folders does not count": (UP, MountAttempted(), UP, NOTHING),
    "folder is not in the guest": (UP, FoldersChanged(problem="no"), replace(UP, folder_problem="no"), NOTHING),
    "folder is back": (replace(UP, folder_problem="no"), FoldersChanged(problem=None), UP, NOTHING),
    "api answers": (API, ApiAnswered(), UP, (ReportUp(),)),
    "api does not answer yet": (
        API,
        ApiFailed(reason="closed"),
        replace(API, reason="Podman API: closed"),
        (ProbeApi(after_s=0.5),),
    ),
    "late answer of the api does not count": (SSH, ApiAnswered(), SSH, NOTHING),
    "late failure of the api does not count": (UP, ApiFailed(reason="x"), UP, NOTHING),
    # A failure before the machine has been up ends it.
    "guest fails in a start": (
        BOOT,
        GuestFailed(cause="panic"),
        replace(BOOT, stopping=True),
        (FailStart(cause="panic"),),
    ),
    "qemu dies in a start": (
        LAUNCH,
        QemuExited(cause="no disk"),
        replace(LAUNCH, stopping=True),
        (FailStart(cause="no disk"),),
    ),
    "guest powers itself off in a start": (
        BOOT,
        QemuExited(),
        replace(BOOT, stopping=True),
        (FailStart(cause="the guest powered itself off"),),
    ),
    "deadline of the phase": (
        BOOT,
        DeadlinePassed(phase=Phase.BOOT),
        replace(BOOT, stopping=True),
        (FailStart(cause="timed out waiting for the guest to boot"),),
    ),
    "deadline tells the last reason": (
        replace(SSH, reason="SSH connection lost: refused"),
        DeadlinePassed(phase=Phase.SSH),
        replace(SSH, reason="SSH connection lost: refused", stopping=True),
        (FailStart(cause="timed out waiting for the SSH server (last: SSH connection lost: refused)"),),
    ),
    "the first failure is the one that is told": (
        replace(BOOT, stopping=True),
        QemuExited(),
        replace(BOOT, stopping=True),
        (Disconnect(), Finish()),
    ),
    "deadline of an earlier phase": (SSH, DeadlinePassed(phase=Phase.BOOT), SSH, NOTHING),
    # A guest that answers over SSH is asked what is wrong, and left running.
    "deadline after ssh": (API, DeadlinePassed(phase=Phase.API), API, (ExamineGuest(deadline=Phase.API),)),
    "guest knows no reason for the delay": (
        replace(API, reason="Podman API: closed"),
        GuestExamined(diagnosis=None, deadline=Phase.API),
        replace(LEFT, reason="Podman API: closed"),
        (LeaveDegraded(cause="timed out waiting for the Podman API (last: Podman API: closed)"),),
    ),
    "guest knows the reason for the delay": (
        FOLDERS,
        GuestExamined(diagnosis=FULL, deadline=Phase.FOLDERS),
        replace(FOLDERS, start_pending=False, was_up=True, diagnosis=FULL),
        (LeaveDegraded(cause=FULL.text, diagnosis=FULL),),
    ),
    "reason for a delay that is over": (
        API,
        GuestExamined(diagnosis=None, deadline=Phase.FOLDERS),
        API,
        NOTHING,
    ),
    "podman keeps failing before the deadline": (
        API,
        GuestExamined(diagnosis=FULL, podman=PodmanHealth.FAILING),
        replace(FAILING, diagnosis=FULL),
        (QuietPodman(in_guest=True), LeaveDegraded(cause=FULL.text, diagnosis=FULL)),
    ),
    "full disk alone does not fail a start": (
        API,
        GuestExamined(diagnosis=FULL),
        replace(API, diagnosis=FULL),
        NOTHING,
    ),
    "api answers although the disk is full": (
        replace(API, diagnosis=FULL),
        ApiAnswered(),
        replace(UP, diagnosis=FULL),
        (ReportUp(),),
    ),
    "guest that was left running comes up": (
        replace(LEFT, diagnosis=FULL),
        ApiAnswered(),
        replace(UP, diagnosis=FULL),
        NOTHING,
    ),
    "podman fails still": (
        FAILING,
        GuestExamined(diagnosis=FULL, podman=PodmanHealth.FAILING),
        replace(FAILING, diagnosis=FULL),
        NOTHING,
    ),
    "podman has not failed again": (
        FAILING,
        GuestExamined(diagnosis=None),
        LEFT,
        (ProbeApi(after_s=0),),
    ),
    "somebody has stopped podman's socket": (
        UP,
        GuestExamined(diagnosis=MASKED, podman=PodmanHealth.CLOSED),
        replace(CLOSED, diagnosis=MASKED),
        (QuietPodman(in_guest=False),),
    ),
    "podman's socket is stopped still": (
        replace(CLOSED, diagnosis=MASKED),
        GuestExamined(diagnosis=MASKED, podman=PodmanHealth.CLOSED),
        replace(CLOSED, diagnosis=MASKED),
        NOTHING,
    ),
    "podman's socket is there and podman fails": (
        CLOSED,
        GuestExamined(diagnosis=FULL, podman=PodmanHealth.FAILING),
        replace(FAILING, diagnosis=FULL),
        (QuietPodman(in_guest=True),),
    ),
    "podman's socket is there again": (CLOSED, GuestExamined(diagnosis=None), LEFT, (ProbeApi(after_s=0),)),
    "podman's socket is stopped in a start": (
        API,
        GuestExamined(diagnosis=MASKED, podman=PodmanHealth.CLOSED),
        replace(CLOSED, diagnosis=MASKED),
        (QuietPodman(in_guest=False), LeaveDegraded(cause=MASKED.text, diagnosis=MASKED)),
    ),
    "late failure of the api adds nothing": (FAILING, ApiFailed(reason="closed"), FAILING, NOTHING),
    "podman may work when the master is back": (
        FAILING,
        EOF_,
        replace(LOST, phase=Phase.SSH),
        (Connect(after_s=0.5),),
    ),
    "podman answers after it has failed": (FAILING, ApiAnswered(), UP, NOTHING),
    "late answer of a guest whose connection is lost": (LOST, GuestExamined(diagnosis=FULL), LOST, NOTHING),
    # A guest that is up is asked, too.
    "disk fills up": (UP, GuestExamined(diagnosis=FULL), replace(UP, diagnosis=FULL), NOTHING),
    "disk has space again": (replace(UP, diagnosis=FULL), GuestExamined(diagnosis=None), UP, NOTHING),
    "podman has failed since": (
        UP,
        GuestExamined(diagnosis=None, podman=PodmanHealth.FAILING),
        FAILING,
        (QuietPodman(in_guest=True),),
    ),
    "guest's clock is off": (
        UP,
        GuestExamined(diagnosis=LATE),
        replace(UP, diagnosis=LATE),
        (SetGuestClock(tests_master=False),),
    ),
    "guest's clock has been mended": (replace(UP, diagnosis=LATE), GuestClockSet(), UP, NOTHING),
    "full disk is not mended by a clock": (
        replace(GAP, diagnosis=FULL),
        GuestClockSet(),
        replace(UP, diagnosis=FULL),
        NOTHING,
    ),
    "reboot forgets what was wrong": (replace(UP, diagnosis=FULL), GuestReset(), REBOOT, (Disconnect(),)),
    # A kernel that panics shows it on the console.
    "kernel panics": (UP, GuestPanicked(message="Oops"), PANICKED, (ExamineGuest(),)),
    "kernel panics in a start, which ends by another event": (BOOT, GuestPanicked(message="Oops"), BOOT, NOTHING),
    "kernel panics while it cannot be asked": (
        REBOOT,
        GuestPanicked(message="Oops"),
        replace(REBOOT, panic="Oops"),
        NOTHING,
    ),
    "guest does not answer": (UP, GuestUnanswering(), UNANSWERING, NOTHING),
    "guest that is out of memory does not answer": (KILLED, GuestUnanswering(), KILLED, NOTHING),
    "guest that was paused could not answer": (PAUSED, GuestUnanswering(), PAUSED, NOTHING),
    "guest answers again": (UNANSWERING, GuestExamined(diagnosis=None), UP, NOTHING),
    "kernel kills a program for its memory": (UP, ProgramKilled(program="p"), KILLED, (ExamineGuest(),)),
    "kernel kills a program of a guest that does not answer": (
        LOST,
        ProgramKilled(program="p"),
        replace(LOST, diagnosis=KILLED.diagnosis),
        NOTHING,
    ),
    "kernel kills a program while it boots": (REBOOT, ProgramKilled(program="p"), REBOOT, NOTHING),
    "kernel has killed nothing worth telling": (KILLED, GuestExamined(diagnosis=None), UP, NOTHING),
    "console has only quoted a panic": (PANICKED, GuestExamined(diagnosis=None), UP, NOTHING),
    "guest that may not have answered may have panicked": (
        PANICKED,
        GuestExamined(diagnosis=None, deadline=Phase.API),
        PANICKED,
        NOTHING,
    ),
    "master of a guest that panicked is lost": (PANICKED, EOF_, replace(LOST, panic="Oops"), (Connect(after_s=0.5),)),
    "guest that panicked resets": (
        PANICKED,
        GuestReset(),
        REBOOT_AFTER_PANIC,
        (Disconnect(),),
    ),
    "guest that panicked is said to reset twice": (
        REBOOT_AFTER_PANIC,
        GuestReset(),
        REBOOT_AFTER_PANIC,
        (Disconnect(),),
    ),
    "guest that panicked reboots again later": (
        replace(UP, reboot_cause="Oops"),
        GuestReset(),
        REBOOT,
        (Disconnect(),),
    ),
    "guest that panicked is ready": (
        replace(REBOOT, panic="Oops"),
        READY,
        replace(UP, phase=Phase.SSH),
        (Connect(after_s=0),),
    ),
    # A reason belongs to its phase, and the newest is told.
    "ssh server refuses the next connection": (
        LOST,
        SshUnanswered(cause=SshSilence.REFUSED),
        replace(LOST, reason="the SSH server refuses connections"),
        NOTHING,
    ),
    "late word of the ssh server does not count": (UP, SshUnanswered(cause=SshSilence.SILENT), UP, NOTHING),
    "ssh fails after the server has greeted": (
        replace(LOST, reason="the SSH server refuses connections"),
        MasterLost(reason="Permission denied"),
        replace(LOST, failures=2, reason="SSH connection failed: Permission denied"),
        (Connect(after_s=1.0),),
    ),
    "reason of the lost connection ends with the next": (
        LOST,
        MasterUp(),
        replace(LOST, phase=Phase.FOLDERS, reason=None),
        (MountFolders(),),
    ),
    "trouble of a guest is asked for again": (
        replace(LOST, diagnosis=FULL),
        MasterUp(),
        replace(LOST, phase=Phase.FOLDERS, reason=None, diagnosis=FULL),
        (MountFolders(), ExamineGuest()),
    ),
    "reason of the api ends with the phase": (
        replace(API, reason="Podman API: closed"),
        EOF_,
        replace(SSH, failures=1, reason=LOST.reason),
        (Connect(after_s=0.5),),
    ),
    # After that, it is degraded until it is up again.
    "guest fails after it has been up": (
        REBOOT,
        GuestFailed(cause="panic"),
        replace(REBOOT, reason="panic"),
        NOTHING,
    ),
    "guest powers itself off": (UP, QemuExited(), UP, (Disconnect(), Finish())),
    "qemu crashes after it has been up": (UP, QemuExited(cause="signal 11"), UP, (Disconnect(), Finish())),
    "deadline after it has been up": (LOST, DeadlinePassed(phase=Phase.SSH), LOST, NOTHING),
    # Reboot
    "guest resets in its first boot": (
        BOOT,
        GuestReset(),
        replace(BOOT, reason="the guest is rebooting", boot_renewals=1),
        (Disconnect(), RenewDeadline()),
    ),
    "guest does nothing but reset": (
        replace(BOOT, reason="the guest is rebooting", boot_renewals=3),
        GuestReset(),
        replace(BOOT, reason="the guest is rebooting", boot_renewals=3),
        (Disconnect(),),
    ),
    "guest resets in a boot that nobody waits for": (REBOOT, GuestReset(), REBOOT, (Disconnect(),)),
    "guest resets": (UP, GuestReset(), REBOOT, (Disconnect(),)),
    "guest resets while the master is being retried": (LOST, GuestReset(), REBOOT, (Disconnect(),)),
    "master ends while the guest boots": (REBOOT, EOF_, REBOOT, NOTHING),
    "guest is ready again": (REBOOT, READY, replace(UP, phase=Phase.SSH), (Connect(after_s=0),)),
    "api answers again": (BACK, ApiAnswered(), UP, NOTHING),
    # The master
    "master is lost while up": (UP, EOF_, LOST, (Connect(after_s=0.5),)),
    "master is lost while the api is awaited": (
        API,
        EOF_,
        replace(SSH, failures=1, reason=LOST.reason),
        (Connect(after_s=0.5),),
    ),
    # Adopting
    "adopted guest is reached": (
        ADOPTED,
        MasterUp(),
        replace(ADOPTED, phase=Phase.FOLDERS, reason=None),
        (MountFolders(),),
    ),
    "adopted guest answers": (replace(ADOPTED, phase=Phase.API), ApiAnswered(), UP, (ReportUp(),)),
    "adopted guest does not answer: it is kept": (
        ADOPTED,
        DeadlinePassed(phase=Phase.SSH),
        replace(ADOPTED, start_pending=False),
        (RefuseAdoption(cause="timed out waiting for the SSH server (last: the supervisor had ended)"),),
    ),
    "greeting of an adopted guest's qemu changes nothing": (ADOPTED, QemuUp(), ADOPTED, NOTHING),
    # Pause
    "paused": (UP, Paused(), replace(UP, pause=PauseCause.REQUESTED), NOTHING),
    "resumed": (replace(UP, pause=PauseCause.REQUESTED), Resumed(), GAP, (SetGuestClock(tests_master=True),)),
    "resumed in a start": (replace(BOOT, pause=PauseCause.REQUESTED), Resumed(), BOOT, NOTHING),
    "stopped by a full disk": (
        replace(UP, pause=PauseCause.REQUESTED),
        Paused(cause=PauseCause.DISK_FULL),
        replace(UP, pause=PauseCause.DISK_FULL),
        NOTHING,
    ),
    # Gaps in the guest's time
    "qemu falls silent": (UP, QemuSilent(), replace(UP, silent=True), NOTHING),
    "qemu answers, as ever": (UP, QemuAnswered(), UP, NOTHING),
    "qemu answers again": (replace(UP, silent=True), QemuAnswered(), GAP, (SetGuestClock(tests_master=True),)),
    "host has slept": (UP, HostClockJumped(), GAP, (SetGuestClock(tests_master=True),)),
    "host has slept, and the master has not outlived it": (
        LOST,
        HostClockJumped(),
        replace(LOST, clock_due=True),
        (Connect(after_s=0),),
    ),
    "host has slept while the guest reboots": (REBOOT, HostClockJumped(), replace(REBOOT, clock_due=True), NOTHING),
    "master is back after a gap": (
        replace(LOST, clock_due=True),
        MasterUp(),
        replace(LOST, clock_due=True, phase=Phase.FOLDERS, reason=None),
        (MountFolders(), SetGuestClock(tests_master=False)),
    ),
    "clock is set": (GAP, GuestClockSet(), UP, NOTHING),
    "no master is tried while the guest stands": (
        replace(UP, silent=True),
        EOF_,
        replace(LOST, silent=True),
        NOTHING,
    ),
    "no master is tried while the guest is paused": (
        replace(UP, pause=PauseCause.REQUESTED),
        EOF_,
        replace(LOST, pause=PauseCause.REQUESTED),
        NOTHING,
    ),
    "a master is tried when qemu answers again": (
        replace(LOST, silent=True),
        QemuAnswered(),
        replace(LOST, clock_due=True),
        (Connect(after_s=0),),
    ),
    # Stop
    "stop": (UP, StopRequested(), STOPPING, (PowerDown(at_once=False),)),
    "stop during start": (BOOT, StopRequested(), replace(BOOT, stopping=True), (PowerDown(at_once=False),)),
    "plug is pulled": (UP, StopRequested(at_once=True), STOPPING, (PowerDown(at_once=True),)),
    "stop is asked for twice": (STOPPING, StopRequested(), STOPPING, NOTHING),
    "plug is pulled during a stop": (STOPPING, StopRequested(at_once=True), STOPPING, (PowerDown(at_once=True),)),
    "stopped": (STOPPING, QemuExited(), STOPPING, (Disconnect(), Finish())),
    "stopped during start": (
        replace(BOOT, stopping=True),
        QemuExited(),
        replace(BOOT, stopping=True),
        (Disconnect(), Finish()),
    ),
    "nothing is left of a failed start": (STOPPING, CleanedUp(), STOPPING, (Disconnect(), Finish())),
    "stop that fails leaves the machine as it was": (STOPPING, StopFailed(), UP, NOTHING),
    "monitor of an adopted guest is gone": (ADOPTED, MonitorLost(), replace(ADOPTED, monitor_lost=True), NOTHING),
    "monitor is there": (replace(UP, monitor_lost=True), QemuUp(), UP, NOTHING),
    "adopted guest stands still": (
        ADOPTED,
        Paused(),
        replace(ADOPTED, pause=PauseCause.REQUESTED, start_pending=False),
        (RefuseAdoption(cause="the guest is paused"),),
    ),
    "guest of a start stands still": (BOOT, Paused(), replace(BOOT, pause=PauseCause.REQUESTED), NOTHING),
    "qemu had to be killed in a stop": (STOPPING, QemuExited(cause="signal 9"), STOPPING, (Disconnect(), Finish())),
}


@pytest.mark.parametrize("what", TABLE)
def test_step(what: str) -> None:
    life, event, after, actions = TABLE[what]
    assert step(life, event) == (after, actions)


def test_lost_masters_are_retried_more_and_more_slowly() -> None:
    life, waits = UP, []
    for _ in range(7):
        life, actions = step(life, EOF_)
        (connect,) = actions
        assert isinstance(connect, Connect)
        waits.append(connect.after_s)
    assert waits == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]


def test_api_that_answers_ends_the_back_off() -> None:
    life = replace(UP, phase=Phase.API, failures=5, reason="x")
    life, _ = step(life, ApiAnswered())
    _, actions = step(life, EOF_)
    assert actions == (Connect(after_s=0.5),)


EVENTS: tuple[Event, ...] = (
    QemuUp(),
    READY,
    GuestReset(),
    GuestFailed(cause="c"),
    GuestPanicked(message="m"),
    ProgramKilled(program="p"),
    SshUnanswered(cause=SshSilence.CLOSED),
    MasterUp(),
    MountAttempted(),
    FoldersChanged(problem="p"),
    EOF_,
    ApiAnswered(),
    ApiFailed(reason="r"),
    *(DeadlinePassed(phase=phase) for phase in Phase),
    Paused(),
    Resumed(),
    QemuSilent(),
    QemuAnswered(),
    HostClockJumped(),
    GuestClockSet(),
    GuestExamined(diagnosis=None),
    GuestUnanswering(),
    GuestExamined(diagnosis=FULL, podman=PodmanHealth.FAILING),
    GuestExamined(diagnosis=LATE, deadline=Phase.API),
    ForwardsChanged(problem="f"),
    SocketsLost(),
    StopRequested(),
    MonitorLost(),
    QemuExited(),
    CleanedUp(),
    StopFailed(),
    SuspendRequested(),
    SuspendFailed(),
    MemoryLoaded(),
)


def test_forward_that_cannot_be_opened_degrades_a_machine_until_it_can() -> None:
    life, actions = step(UP, ForwardsChanged(problem="port 1 is taken"))
    assert (life.state, actions) == (MachineState(state=State.DEGRADED, reason="port 1 is taken"), ())
    lost, _ = step(life, EOF_)
    assert "SSH connection lost" in (lost.state.reason or "")  # the greater trouble is told first
    assert step(life, ForwardsChanged(problem=None))[0].state.state is State.RUNNING


def test_guest_whose_kernel_panicked_is_not_connected() -> None:
    assert (UP.connected, PANICKED.connected, PANICKED.may_answer) == (True, False, True)
    assert (UNANSWERING.connected, UNANSWERING.may_answer) == (False, True)


def test_sockets_that_were_removed_are_made_anew() -> None:
    life, actions = step(UP, SocketsLost())
    assert (life.state.state, actions) == (State.DEGRADED, (Connect(after_s=0),))
    assert step(Life(phase=Phase.BOOT), SocketsLost()) == (Life(phase=Phase.BOOT), ())


def test_list_of_events_is_complete() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS)
def test_stop_is_disturbed_by_nothing_but_its_end(event: Event) -> None:
    life, actions = step(STOPPING, event)
    if isinstance(event, SuspendFailed):
        return  # which ends it, too: see the table
    assert life == (UP if isinstance(event, StopFailed) else STOPPING)
    assert actions == ((Disconnect(), Finish()) if isinstance(event, QemuExited | CleanedUp) else ())


def test_start_ends_once_by_success_or_failure() -> None:
    """In every history of three events between the first connection and the first answer."""
    for history in product(EVENTS, repeat=3):
        life, announced = Life(phase=Phase.SSH), False
        for event in (MasterUp(), *history, ApiAnswered()):
            before = life
            life, actions = step(life, event)
            kinds = [type(action) for action in actions]
            assert not (announced and {ReportUp, FailStart, LeaveDegraded, RefuseAdoption} & set(kinds)), history
            assert Finish not in kinds or before.was_up or before.stopping, history
            announced = announced or ReportUp in kinds or LeaveDegraded in kinds


def test_start_tells_everything_that_the_machine_lacks() -> None:
    assert UP.problems == ()
    assert replace(UP, folder_problem="no folder", forward_problem="no port").problems == ("no port", "no folder")


@pytest.mark.parametrize(
    ("life", "state"),
    [
        (LAUNCH, MachineState(state=State.STARTING)),
        (API, MachineState(state=State.STARTING)),
        (UP, MachineState(state=State.RUNNING)),
        (replace(UP, folder_problem="no"), MachineState(state=State.DEGRADED, reason="no")),
        (replace(LOST, folder_problem="no"), MachineState(state=State.DEGRADED, reason="SSH connection lost: eof")),
        (REBOOT, MachineState(state=State.DEGRADED, reason="the guest is rebooting")),
        (replace(UP, diagnosis=FULL), MachineState(state=State.DEGRADED, reason=FULL.text)),
        (replace(UP, diagnosis=FULL, folder_problem="no"), MachineState(state=State.DEGRADED, reason=FULL.text)),
        (replace(LEFT, diagnosis=FULL, reason="closed"), MachineState(state=State.DEGRADED, reason=FULL.text)),
        (replace(LEFT, reason="closed"), MachineState(state=State.DEGRADED, reason="closed")),
        (replace(LOST, diagnosis=FULL), MachineState(state=State.DEGRADED, reason="SSH connection lost: eof")),
        (
            replace(LOST, diagnosis=KILLED.diagnosis),
            MachineState(state=State.DEGRADED, reason="the guest is out of memory and has killed p"),
        ),
        (LOST, MachineState(state=State.DEGRADED, reason="SSH connection lost: eof")),
        (ADOPTED, MachineState(state=State.DEGRADED, reason="the supervisor had ended")),
        (replace(UP, pause=PauseCause.REQUESTED), MachineState(state=State.PAUSED)),
        (
            replace(UP, pause=PauseCause.DISK_FULL),
            MachineState(state=State.PAUSED, reason=PauseCause.DISK_FULL.reason),
        ),
        (PANICKED, MachineState(state=State.DEGRADED, reason="the guest's kernel panicked: Oops")),
        (replace(LOST, panic="Oops"), MachineState(state=State.DEGRADED, reason="the guest's kernel panicked: Oops")),
        (
            replace(LOST, phase=Phase.FOLDERS, reason=None, folder_problem="no"),
            MachineState(state=State.DEGRADED, reason="waiting for the folders to be mounted"),
        ),
        (replace(UP, silent=True), MachineState(state=State.DEGRADED, reason="QEMU does not answer")),
        (replace(BOOT, silent=True), MachineState(state=State.STARTING)),
        (replace(BOOT, stopping=True), MachineState(state=State.STOPPING)),
        (replace(UP, pause=PauseCause.REQUESTED, stopping=True), MachineState(state=State.STOPPING)),
    ],
)
def test_state_that_others_see(life: Life, state: MachineState) -> None:
    assert life.state == state
    assert bool(life.remedy("box")) is (state.state in (State.DEGRADED, State.PAUSED))


@pytest.mark.parametrize(
    ("life", "remedy"),
    [
        (replace(UP, diagnosis=FULL, folder_problem="no"), FULL.remedy("box")),
        (
            replace(UP, folder_problem="no"),
            "if a folder is missing on this host, make or mount it again; then: machine restart box",
        ),
        (replace(UP, monitor_lost=True), "machine restart box"),
        (replace(UP, silent=True, diagnosis=FULL), "wait until it goes on, or end it with: machine kill box"),
        (replace(UP, pause=PauseCause.DISK_FULL), "free space on this host; the guest then goes on by itself"),
    ],
)
def test_remedy_is_the_one_of_the_worst_problem(life: Life, remedy: str) -> None:
    assert life.remedy("box") == remedy


@pytest.mark.parametrize(
    ("phase", "hardware", "emulated", "patient", "patient_emulated"),
    [
        (Phase.LAUNCH, 30, 30, 150, 150),
        (Phase.BOOT, 120, 1200, 600, 6000),
        (Phase.SSH, 30, 300, 150, 1500),
        (Phase.FOLDERS, 30, 300, 150, 1500),
        (Phase.API, 60, 600, 300, 3000),
        (Phase.UP, math.inf, math.inf, math.inf, math.inf),
    ],
)
def test_deadlines_give_an_emulated_guest_ten_times_as_long_and_patience_multiplies_all(
    phase: Phase, hardware: float, emulated: float, patient: float, patient_emulated: float
) -> None:
    assert (phase.deadline_s(Accelerator.KVM), phase.deadline_s(Accelerator.TCG)) == (hardware, emulated)
    assert phase.deadline_s(Accelerator.HVF, patience=5) == patient
    assert phase.deadline_s(Accelerator.TCG, patience=5) == patient_emulated


def test_guest_that_fetches_packages_may_boot_for_longer_and_nothing_else_may() -> None:
    waits = {
        phase: phase.deadline_s(Accelerator.TCG, download_s=900) - phase.deadline_s(Accelerator.TCG)
        for phase in Phase
        if phase is not Phase.UP
    }
    assert waits == {Phase.LAUNCH: 0, Phase.RESUME: 0, Phase.BOOT: 900, Phase.SSH: 0, Phase.FOLDERS: 0, Phase.API: 0}
    assert Provisioning.CLOUD_INIT.download_s > Provisioning.IGNITION.download_s == 0
