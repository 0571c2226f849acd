"""The current state of a machine, and the queue of events that change it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import fields

from machine.supervisor.actions import Action
from machine.supervisor.events import Event
from machine.supervisor.life import Life
from machine.supervisor.lifecycle import step

log = logging.getLogger(__name__)

# A counter of retries, which changes every two seconds while a guest cannot be reached.
_UNLOGGED = "failures"


class LifeTracker:
    """Holds the current state of a machine, and a queue of the events that change the state."""

    def __init__(self, life: Life) -> None:
        self.current = life
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def post(self, event: Event) -> None:
        self._events.put_nowait(event)

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
