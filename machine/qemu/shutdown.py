"""Ending a guest: first as its power button does, then QEMU by QMP, then QEMU by a signal."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

from qemu.qmp import QMPClient

from machine.errors import MachineError
from machine.model.host import Accelerator
from machine.qemu import monitor

_BUTTON_EVERY_S = 10.0
_QUIT_S = 10.0
_KILL_EVERY_S = 1.0
_KILL_ATTEMPTS = 10


class Ending(StrEnum):
    POWERED_DOWN = "powered down"
    QUIT = "quit"
    KILLED = "killed"

    @property
    def notice(self) -> str:
        """What a person should know about it; empty when all went well."""
        return {
            Ending.POWERED_DOWN: "",
            Ending.QUIT: "The guest did not power down in time: QEMU was told to quit",
            Ending.KILLED: "The guest did not power down and QEMU did not quit: it was killed",
        }[self]


def patience_s(accelerator: Accelerator) -> float:
    """Seconds that a guest gets to power down; shutting down is less work than booting."""
    return 180.0 if accelerator is Accelerator.TCG else 90.0


async def shut_down(
    client: QMPClient | None,
    *,
    ended: Callable[[float], Awaitable[bool]],
    kill: Callable[[], None],
    patience: float,
) -> Ending:
    """End QEMU; `ended` waits so many seconds and says whether it is gone, `patience` of 0 skips the power button.

    Raises:
        MachineError: QEMU survives a SIGKILL.
    """
    if client is not None and patience > 0 and await _press_button(client, ended, patience):
        return Ending.POWERED_DOWN
    if client is not None:
        await monitor.request_quit(client)
        if await ended(_QUIT_S):
            return Ending.QUIT
    for _ in range(_KILL_ATTEMPTS):
        kill()
        if await ended(_KILL_EVERY_S):
            return Ending.KILLED
    raise MachineError("QEMU does not end, not even by SIGKILL")


async def _press_button(client: QMPClient, ended: Callable[[float], Awaitable[bool]], patience: float) -> bool:
    until = time.monotonic() + patience
    try:
        # A paused guest hears no button.
        await monitor.execute(client, "cont")
        while (left := until - time.monotonic()) > 0:
            # Again and again, for a guest that was not listening yet.
            await monitor.execute(client, "system_powerdown")
            if await ended(min(_BUTTON_EVERY_S, left)):
                return True
    except MachineError:
        return await ended(_QUIT_S)
    return False
