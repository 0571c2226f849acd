"""What a machine is doing. States are computed from live facts and never stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
        return self not in (State.STOPPED, State.STARTING)


class SupervisorState(StrEnum):
    """The condition of the supervisor of a machine that is not stopped, as a command sees it."""

    WORKING = "working"
    SILENT = "silent"
    """It runs but does not answer."""

    GONE = "gone"
    """It has ended, but the guest still runs."""


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What a machine is doing."""

    state: State
    reason: str | None = None
    """What is wrong, in a few words for people; None if nothing is."""

    supervisor: SupervisorState = SupervisorState.WORKING

    @property
    def is_orphaned(self) -> bool:
        """Whether the guest runs without its supervisor, so that `machine start` can adopt it."""
        return self.supervisor is SupervisorState.GONE


STOPPED = MachineState(state=State.STOPPED)
ORPHANED = MachineState(state=State.DEGRADED, reason="its supervisor has ended", supervisor=SupervisorState.GONE)
UNRESPONSIVE = MachineState(
    state=State.DEGRADED, reason="its supervisor does not answer", supervisor=SupervisorState.SILENT
)
