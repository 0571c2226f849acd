"""End a guest: press its power button, then tell QEMU to quit, then kill QEMU."""

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
    """How a guest ended."""

    POWERED_DOWN = "powered down"
    QUIT = "quit"
    KILLED = "killed"

    @property
    def notice(self) -> str | None:
        """What to tell the user, or None if the guest powered down."""
        match self:
            case Ending.POWERED_DOWN:
                return None
            case Ending.QUIT:
                return "The guest did not power down in time, so QEMU was told to quit"
            case Ending.KILLED:
                return "The guest did not power down and QEMU did not quit, so QEMU was killed"


def patience_s(accelerator: Accelerator) -> float:
    """Return the seconds that a guest has to power down."""
    return 180.0 if accelerator is Accelerator.TCG else 90.0


async def shut_down(
    client: QMPClient | None,
    *,
    ended: Callable[[float], Awaitable[bool]],
    kill: Callable[[], None],
    patience: float,
) -> Ending:
    """End QEMU. The guest has `patience` seconds to power down; with 0, its power button is not pressed.

    `ended` waits the given number of seconds for QEMU's end, and returns whether QEMU has ended.

    Raises:
        MachineError: QEMU survives SIGKILL.
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
    raise MachineError("QEMU is still running after SIGKILL")


async def _press_button(client: QMPClient, ended: Callable[[float], Awaitable[bool]], patience: float) -> bool:
    until = time.monotonic() + patience
    try:
        # A paused guest does not notice the button.
        await monitor.execute(client, "cont")
        while (left := until - time.monotonic()) > 0:
            # Repeatedly, as a guest that is still booting ignores it.
            await monitor.execute(client, "system_powerdown")
            if await ended(min(_BUTTON_EVERY_S, left)):
                return True
    except MachineError:
        return await ended(_QUIT_S)
    return False
