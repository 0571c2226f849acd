"""What machines are doing: asked once, waited for, or followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.state import MachineState, State
from machine.ops.env import api_socket
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.podman import api
from machine.store import records

_EVERY_S = 0.5


class Condition(StrEnum):
    """What `machine wait` can wait for."""

    RUNNING = "running"
    API = "api"
    STOPPED = "stopped"

    @property
    def state(self) -> State:
        return State.STOPPED if self is Condition.STOPPED else State.RUNNING

    @property
    def waits_for(self) -> str:
        return "answer on its API socket" if self is Condition.API else f"be {self.state}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A machine whose state is another one; None before it was made and after it was removed."""

    moment: datetime
    name: str
    before: State | None
    after: State | None
    reason: str


def status(name: str, context: Context) -> MachineState:
    """Raises:
    NotFoundError: there is no such machine.
    """
    records.find(context.roots, name)
    return machine_state(context.roots.machine(name))


def wait(name: str, condition: Condition, timeout_s: float, context: Context) -> None:
    """Return when it holds.

    Raises:
        NotFoundError: there is no such machine, or no longer.
        MachineError: its record is damaged.
        DeadlineError: it did not hold in time.
    """
    deadline = Deadline.after(timeout_s, f"{name} to {condition.waits_for}")
    while True:
        state = status(name, context)
        if state.state is condition.state and (condition is not Condition.API or _answers(name, context, deadline)):
            return
        if deadline.passed:
            raise deadline.error(last=state.state)
        time.sleep(min(_EVERY_S, deadline.left_s))


def _answers(name: str, context: Context, deadline: Deadline) -> bool:
    socket = api_socket(name, context)
    try:
        asyncio.run(api.ping(socket, timeout_s=max(1.0, deadline.left_s)))
    except MachineError:
        return False
    return True


def follow(context: Context) -> Iterator[Change]:
    """Every change of any machine from now on; a state that lasts less than half a second may go unseen."""
    before = _states(context)
    while True:
        time.sleep(_EVERY_S)
        after = _states(context)
        yield from changes(before, after, datetime.now(UTC))
        before = after


def changes(
    before: Mapping[str, MachineState], after: Mapping[str, MachineState], moment: datetime
) -> Iterator[Change]:
    """What differs between two moments, by name."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield Change(
                moment=moment,
                name=name,
                before=old.state if old else None,
                after=new.state if new else None,
                reason=new.reason if new else "",
            )


def _states(context: Context) -> dict[str, MachineState]:
    return {name: machine_state(context.roots.machine(name)) for name in records.machine_names(context.roots)}
