"""What a machine is doing. States are computed from live facts and never stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPING = "stopping"

    @property
    def is_up(self) -> bool:
        """A guest is executing, so that a person can reach it or soon will."""
        return self not in (State.STOPPED, State.STARTING)


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """A state and, where it is not a good one, the reason in a few words."""

    state: State
    reason: str = ""


STOPPED = MachineState(state=State.STOPPED)
