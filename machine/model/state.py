"""Describe what a machine is doing. States are computed from live facts and never stored."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from machine.model.dataclass import dataclass


class State(StrEnum):
    """What a machine is doing, in one word."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPING = "stopping"

    @property
    def is_up(self) -> bool:
        """Whether a guest is executing, so that it can be reached now or soon."""
        return self.has_processes and self is not State.STARTING

    @property
    def has_processes(self) -> bool:
        """Whether processes of the machine run on this host."""
        return self not in (State.STOPPED, State.SUSPENDED)


class SupervisorState(StrEnum):
    """What a command can tell about the supervisor of a machine that is not stopped."""

    WORKING = "working"
    SILENT = "silent"
    """The supervisor runs but does not answer."""

    GONE = "gone"
    """The supervisor has ended, but the guest still runs."""


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What a machine is doing."""

    state: State
    reason: str | None = None
    """What is wrong, in a few words for people; None if nothing is wrong."""

    remedy: str | None = field(default=None, compare=False)
    """What the user can do about `reason`; None if nothing is wrong, or if nobody knows."""

    supervisor: SupervisorState = SupervisorState.WORKING

    connected: bool = field(default=True, compare=False)
    """Whether the supervisor reaches the guest over SSH. False if that is unknown."""

    @property
    def is_orphaned(self) -> bool:
        """Whether the guest runs without its supervisor. If so, `machine start` can adopt the guest."""
        return self.supervisor is SupervisorState.GONE


STOPPED = MachineState(state=State.STOPPED)
SUSPENDED = MachineState(state=State.SUSPENDED)
ORPHANED = MachineState(
    state=State.DEGRADED, reason="its supervisor has ended", supervisor=SupervisorState.GONE, connected=False
)
UNRESPONSIVE = MachineState(
    state=State.DEGRADED, reason="its supervisor does not answer", supervisor=SupervisorState.SILENT, connected=False
)
