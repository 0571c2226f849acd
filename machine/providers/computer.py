"""The computer behind a running machine, as its supervisor sees it: what starts it, waits for its end, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from machine.qemu.monitor import Monitor
from machine.qemu.shutdown import Ending, Limits


class Computer(ABC):
    """The computer behind a machine. Each provider has its own."""

    lock_descriptor: int | None = None
    """The descriptor of the machine's lock, which processes of the computer inherit. None if there is none to pass."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    @abstractmethod
    async def start(self) -> None:
        """Start the computer.

        Raises:
            MachineError: it cannot be started.
        """

    async def wait(self) -> str | None:
        """Wait until the computer has ended. Return how it failed and its last message, or None after a normal end."""
        cause = await self._wait()
        self._ended.set()
        return cause

    async def ends_within(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` until the computer has ended, and return whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        return self._ended.is_set()

    @abstractmethod
    async def shut_down(
        self, monitor: Monitor | None, log_in_and_power_off: Callable[[], Awaitable[bool]], limits: Limits
    ) -> Ending:
        """End the computer within these limits, and return how it ended. The arguments are as in `Means`.

        Raises:
            MachineError: the computer cannot be ended.
        """

    @abstractmethod
    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the computer's process, if it has one. SIGKILL always ends the computer."""

    @abstractmethod
    async def _wait(self) -> str | None: ...
