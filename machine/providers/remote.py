"""A host that is reached over SSH, in place of a virtual computer. It runs anyway, so nothing is launched or ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from machine.providers.computer import Computer
from machine.qemu.monitor import Monitor
from machine.qemu.shutdown import Ending, Limits


class RemoteComputer(Computer):
    """A remote host, which for its machine ends when the machine is stopped. The host itself is left alone."""

    def __init__(self) -> None:
        super().__init__()
        self._left = asyncio.Event()

    async def start(self) -> None:
        """Do nothing, because the host runs already."""

    async def shut_down(
        self,
        monitor: Monitor | None,  # noqa: ARG002
        log_in_and_power_off: Callable[[], Awaitable[bool]],  # noqa: ARG002
        limits: Limits,  # noqa: ARG002
    ) -> Ending:
        self._left.set()
        return Ending.POWERED_DOWN

    def send_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGKILL:
            self._left.set()

    async def _wait(self) -> str | None:
        await self._left.wait()
        return None
