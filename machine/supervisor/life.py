"""The state of one machine, as its supervisor sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from machine.model.state import MachineState, State
from machine.supervisor.diagnosis import Diagnosis, GuestTrouble, PodmanHealth
from machine.supervisor.events import PauseCause
from machine.supervisor.phases import Phase
from machine.supervisor.problem import Area, Problem

_MONITOR_LOST = "the socket of QEMU's monitor was removed; a restart of the machine makes it anew"


@dataclass(frozen=True, kw_only=True)
class Life:
    """The state of one machine, as its supervisor sees it."""

    phase: Phase = Phase.LAUNCH

    was_up: bool = False
    """Whether UP has been reached since QEMU started, possibly under an earlier supervisor. Also set after a
    failed start that has left the guest running.
    """

    start_pending: bool = True
    """Whether a `machine start` is waiting for the phase UP."""

    stopping: bool = False
    """Whether the machine is about to end, or to be suspended."""

    suspending: bool = False
    """Whether it is about to be suspended."""

    resumes: bool = False
    """Whether QEMU was started to load the guest's memory, instead of booting the guest."""

    pause: PauseCause | None = None
    """Why the guest's CPUs are stopped. None while the CPUs run."""

    silent: bool = False
    """Whether QEMU does not answer on the QMP socket."""

    monitor_lost: bool = False
    """QEMU cannot be reached by QMP, although it may well work."""

    panic: str | None = None
    """What the guest's kernel has said in its panic. None if the guest has shown a sign of life since then."""

    clock_due: bool = False
    """Whether the guest was paused or the host slept, and the guest's clock has not been set since then."""

    failures: int = 0
    """How many SSH masters have been lost since Podman's API last answered."""

    boot_renewals: int = 0
    """How many times the deadline of the phase BOOT has begun anew because the guest reset itself in this phase."""

    reboot_cause: str | None = None
    """What the guest's kernel said in the panic that has led to the last reboot. None if it did not panic."""

    forward_problem: str | None = None
    """Why a forward cannot be opened. None when all forwards are open."""

    folder_problem: str | None = None
    """Why one of the host's folders is not mounted in the guest. None when all folders are mounted."""

    podman: PodmanHealth = PodmanHealth.UNKNOWN
    """What the guest has said about its Podman. While Podman is known not to work, its API is not asked."""

    diagnosis: Diagnosis | None = None
    """What is wrong with the guest, as far as it can tell; None if nothing is."""

    reason: str | None = None
    """Why the machine is in this phase, or why the phase lasts. It is never kept in another phase (see `_enter`).

    None if the machine is up, or if the reason is unknown.
    """

    @property
    def may_answer(self) -> bool:
        """Whether there is an SSH connection over which the guest may answer."""
        return self.phase.is_after_ssh and not self.silent and self.pause is None

    @property
    def connected(self) -> bool:
        """Whether the guest can be reached over SSH, as far as is known."""
        is_silent = self.diagnosis and self.diagnosis.trouble is GuestTrouble.NO_ANSWER
        return self.may_answer and self.panic is None and not is_silent

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not work although the machine is up: the monitor, the guest itself, forwards or folders."""
        return tuple(problem.text for problem in self._problems)

    @property
    def _problems(self) -> Iterator[Diagnosis | Problem]:
        if self.monitor_lost:
            yield Problem(area=Area.MONITOR, text=_MONITOR_LOST)
        if self.diagnosis:
            yield self.diagnosis
        if self.forward_problem:
            yield Problem(area=Area.FORWARDS, text=self.forward_problem)
        if self.folder_problem:
            yield Problem(area=Area.FOLDERS, text=self.folder_problem)

    @property
    def trouble(self) -> Diagnosis | Problem | None:
        """The worst problem of a machine that has been up, or None if the machine has no problem."""
        if self.silent:
            return Problem(area=Area.QEMU, text="QEMU does not answer")
        if self.panic is not None:
            return Problem(area=Area.KERNEL, text=panic_text(self.panic))
        if self.phase is not Phase.UP:
            if self.diagnosis and (self.phase.is_after_ssh or self.diagnosis.trouble.silences):
                return self.diagnosis
            return Problem(area=Area.CONNECTION, text=self.reason or f"waiting for {self.phase.waits_for}")
        return next(self._problems, None)

    @property
    def state(self) -> MachineState:
        """The machine's state, as other commands show it to the user."""
        if self.stopping:
            return MachineState(state=State.STOPPING)
        if self.pause is not None:
            return MachineState(state=State.PAUSED, reason=self.pause.reason, connected=False)
        if not self.was_up:
            return MachineState(state=State.STARTING, connected=self.connected)
        if self.trouble:
            return MachineState(state=State.DEGRADED, reason=self.trouble.text, connected=self.connected)
        return MachineState(state=State.RUNNING)

    def remedy(self, name: str) -> str | None:
        """Return what the user can do about the reason of this machine's state, or None if nothing is wrong."""
        match self.state.state:
            case State.PAUSED if self.pause:
                return self.pause.remedy(name)
            case State.DEGRADED if self.trouble:
                return self.trouble.remedy(name)
            case _:
                return None


ADOPTED = Life(phase=Phase.SSH, was_up=True, reason="the supervisor had ended")
"""The initial state for a guest that has outlived its supervisor."""


def panic_text(message: str) -> str:
    """Return the reason of a machine whose guest has printed this message of a panic."""
    return f"the guest's kernel panicked: {message}"
