"""The current state of a machine, and the queue of events that change it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import fields

from machine.deadline import Deadline
from machine.supervisor.actions import Action
from machine.supervisor.events import Event
from machine.supervisor.life import Life
from machine.supervisor.lifecycle import step
from machine.supervisor.phases import Phase

log = logging.getLogger(__name__)

# A counter of retries, which changes every two seconds while a guest cannot be reached.
_UNLOGGED = "failures"
_POLL_S = 0.2


class LifeTracker:
    """Holds the current state of a machine, and a queue of the events that change the state."""

    def __init__(self, life: Life) -> None:
        self.current = life
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def post(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def reach(self, phase: Phase, *, timeout_s: float) -> None:
        """Wait until the machine is in a phase or stops, or for `timeout_s` at most."""
        deadline = Deadline.after(timeout_s, phase.waits_for)
        while self.current.phase is not phase and not (self.current.stopping or deadline.passed):
            await asyncio.sleep(_POLL_S)

    async def advance(self) -> tuple[Action, ...]:
        """Wait for the next event, change the state accordingly, and return the actions that the event requires."""
        event = await self._events.get()
        before = self.current
        self.current, actions = step(before, event)
        if changes := describe_changes(before, self.current):
            log.info("%s: %s", event, "; ".join(changes))
        return actions


def describe_changes(before: Life, after: Life) -> list[str]:
    """Return a text `name: old -> new` for every field that differs between two states."""
    return [
        f"{field.name}: {old} -> {new}"
        for field in fields(Life)
        if field.name != _UNLOGGED and (old := getattr(before, field.name)) != (new := getattr(after, field.name))
    ]
