"""Run a supervisor's background tasks. Once the guest is up, a bug in a task does not end the supervisor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Self

from machine.supervisor.tracker import LifeTracker

log = logging.getLogger(__name__)

_PAUSE_S = 5.0


class Tasks:
    """A group of background tasks, which is entered like an asyncio.TaskGroup.

    Until the guest has been up, the error of a task ends the whole group. After that, an error is only logged. Neither
    a bug nor an upgrade or removal of this program must leave a running guest without its supervisor.
    """

    def __init__(self, life: LifeTracker) -> None:
        self._life = life
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, value, traceback)

    def run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task that does a piece of work in the background."""
        task = self._group.create_task(self._do(work))
        task.add_done_callback(lambda _: work.close())  # it has not begun if the task was cancelled at once
        return task

    async def _do(self, work: Coroutine[None, None, None]) -> None:
        await self._attempt(work)

    def keep(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Start a task whose work lasts as long as QEMU does. After an error, the work begins anew."""
        return self._group.create_task(self._repeat(work))

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        while not await self._attempt(work()):
            await asyncio.sleep(_PAUSE_S)

    async def _attempt(self, work: Awaitable[None]) -> bool:
        """Do a piece of work, and return whether it ended without an error."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  (logged, or raised again)
            self.tolerate(error)
            return False
        return True

    def tolerate(self, error: Exception) -> None:
        """Log `error` of a background task. If the guest has never been up, raise `error` instead."""
        if not self._life.current.was_up:
            raise error
        log.error("internal error", exc_info=error)
