"""What a fault is, and what a trial of one finds out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.support.faults.rig import Rig

SILENT_S = 10.0
"""A command may be silent for so many seconds before it ends or says what it waits for."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What `machine ls` shows."""

    state: str
    reason: str = ""
    """A part of the reason; no reason at all if this is empty."""

    within_s: float = 15.0

    def matches(self, state: str, reason: str) -> bool:
        return state == self.state and (self.reason in reason if self.reason else not reason)


RUNNING = Shown(state="running")
STOPPED = Shown(state="stopped")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A command line that is run while the fault lasts, and how it must end."""

    words: tuple[str, ...]
    says: str
    """A part of what the command prints."""

    status: int = 125
    within_s: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Cure:
    """Command lines of `machine` that end a fault, one after another."""

    lines: tuple[tuple[str, ...], ...] = ()
    says: str = ""
    """A part of what they print."""

    within_s: float = 60.0

    @property
    def text(self) -> str:
        return " && ".join(f"machine {' '.join(words)}" for words in self.lines) or "by itself"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row of the table of faults."""

    name: str
    provoke: Callable[[Rig], AbstractContextManager[None]]
    """Begins the fault. A fault that lasts until something outside ends it has its end in the context's exit."""

    shown: Shown | None = None
    """What must be shown while the fault lasts. None if nothing has to be, as the machine works or comes back soon."""

    asks: tuple[Ask, ...] = ()
    cure: Cure = field(default_factory=Cure)
    after: Shown = RUNNING
    """What must be shown after the cure. A row that stops the machine has a check of its own for what is lost."""

    back_within_s: float = 120.0
    """How long after the cure the machine may take until everything works again."""

    reboots: bool = False
    """Whether the guest has booted again afterwards, so that programs in it have been started anew."""

    check: Callable[[Rig], Iterator[str]] | None = None
    """Looks for more that must not be, once the machine is back, and yields it in words."""

    needs_folder: bool = False
    """Whether it is tried on the machine that has a folder on virtiofs."""

    fills_disk: bool = False
    """Whether the host's disk is filled, which needs one for the machines alone, and so a run as root."""

    is_long: bool = False
    """Whether the row is left to scripts/faults and to long runs of the tests."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a trial."""

    name: str
    shown: str
    """The state and reason that were seen while the fault lasted."""

    shown_after_s: float | None
    cure: str
    back_after_s: float | None
    lost: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What did not hold, apart from losses."""

    @property
    def holds(self) -> bool:
        return not self.lost and not self.problems
