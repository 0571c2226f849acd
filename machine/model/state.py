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
    """How a command finds the supervisor of a machine that is not stopped."""

    WORKING = "working"
    SILENT = "silent"
    """It lives but does not answer."""

    GONE = "gone"
    """It has ended, and the guest runs on."""


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What a machine is doing."""

    state: State
    reason: str | None = None
    """Why the state is not a good one, in a few words for people."""

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
