"""End a guest: ask it to power down, then tell QEMU to quit, then kill QEMU."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from machine.errors import DiskError, MachineError, Page
from machine.model.host import Accelerator
from machine.qemu import monitor
from machine.qemu.monitor import Monitor

_BUTTON_EVERY_S = 10.0
_STATUS_EVERY_S = 2.0
# A guest that is still booting refuses a login for about this long.
_LOGIN_S = 60.0
_LOGIN_PAUSE_S = 1.0
# Containers have time to end, and the guest has written what they have left within 35 s.
_HANGING_S = 75.0
_QUIT_S = 10.0
_KILL_S = 10.0
_KILL_EVERY_S = 1.0


class Ending(StrEnum):
    """How a guest ended."""

    POWERED_DOWN = "powered down"
    QUIT = "quit"
    KILLED = "killed"
    SUSPENDED = "suspended"

    @property
    def notice(self) -> str | None:
        """A notice for the user if the guest has not powered down, else None."""
        match self:
            case Ending.POWERED_DOWN | Ending.SUSPENDED:
                return None
            case Ending.QUIT:
                return "The guest did not power down in time, so QEMU was told to quit"
            case Ending.KILLED:
                return "The guest did not power down and QEMU did not quit, so QEMU was killed"


@dataclass(frozen=True, kw_only=True)
class Means:
    """The ways to reach a running QEMU and its guest."""

    monitor: Monitor | None
    """A QMP session, or None if QEMU's monitor cannot be reached, for example because its socket was removed."""

    log_in_and_power_off: Callable[[], Awaitable[bool]]
    """Asks the guest over SSH to power down, and returns whether the guest has accepted the request."""

    send_signal: Callable[[signal.Signals], None]

    ended: Callable[[float], Awaitable[bool]]
    """Waits up to the given number of seconds for QEMU's end, and returns whether QEMU has ended."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many seconds each way of ending a guest may take."""

    power_down_s: float
    """How long the guest may take to power down. With 0, the guest is not asked to."""

    login_s: float
    """How long the guest may refuse a login, if it is asked over SSH."""

    quit_s: float
    kill_s: float


def choose_limits(
    accelerator: Accelerator, *, patience: int = 1, at_once: bool = False, may_hang: bool = False
) -> Limits:
    """Return the limits for ending a guest. With `at_once`, the guest is not asked to power down.

    `may_hang` says that programs in the guest may not end, because they wait for a host program that has ended.
    """
    power_down_s = 180.0 if accelerator is Accelerator.TCG else 90.0
    if may_hang:
        power_down_s = min(power_down_s, _HANGING_S)
    return Limits(
        power_down_s=0.0 if at_once else power_down_s * patience,
        login_s=_LOGIN_S * patience,
        quit_s=_QUIT_S * patience,
        kill_s=_KILL_S * patience,
    )


async def shut_down(means: Means, limits: Limits) -> Ending:
    """End QEMU, and return how it ended. First ask the guest to power down, unless `limits` give it no time for that.

    If QEMU's monitor cannot be reached, the guest is asked over SSH, and a signal tells QEMU to quit.

    Raises:
        DiskError: the guest is paused because the host's disk is full. The guest stays as it is.
        MachineError: QEMU is still running after SIGKILL.
    """
    if limits.power_down_s > 0 and await _power_down(means, limits):
        return Ending.POWERED_DOWN
    if means.monitor:
        await monitor.request_quit(means.monitor)
    else:
        means.send_signal(signal.SIGTERM)
    if await means.ended(limits.quit_s):
        return Ending.QUIT
    for _ in range(math.ceil(limits.kill_s / _KILL_EVERY_S)):
        means.send_signal(signal.SIGKILL)
        if await means.ended(_KILL_EVERY_S):
            return Ending.KILLED
    raise MachineError("QEMU is still running after SIGKILL")


async def _power_down(means: Means, limits: Limits) -> bool:
    """Ask the guest to power down, and return whether QEMU has ended in time."""
    if means.monitor is None:
        return await _power_off_over_ssh(means, limits)
    try:
        return await _press_button(means.monitor, means.ended, limits.power_down_s)
    except DiskError:
        raise
    except MachineError:
        return await means.ended(limits.quit_s)


async def _press_button(client: Monitor, ended: Callable[[float], Awaitable[bool]], limit_s: float) -> bool:
    until = time.monotonic() + limit_s
    had_full_disk = await monitor.query_status(client) == monitor.STATUS_DISK_FULL
    # A paused guest does not notice the button.
    await monitor.execute(client, "cont")
    # Otherwise the button would have its effect when the guest resumes, although the stop has failed.
    if had_full_disk and not await ended(_STATUS_EVERY_S):
        await _check_disk(client)
    pressed = float("-inf")
    while (left := until - time.monotonic()) > 0:
        # Repeatedly, as a guest that is still booting ignores it.
        if time.monotonic() - pressed >= _BUTTON_EVERY_S:
            pressed = time.monotonic()
            await monitor.execute(client, "system_powerdown")
        if await ended(min(_STATUS_EVERY_S, left)):
            return True
        await _check_disk(client)
    return False


async def _check_disk(client: Monitor) -> None:
    """Check that a full disk has not stopped the guest.

    Raises:
        DiskError: a full disk has stopped the guest.
    """
    if await monitor.query_status(client) == monitor.STATUS_DISK_FULL:
        raise DiskError(
            "the guest cannot power down, because the host's disk is full",
            hint="free some space and try again, or turn the guest off at once with: machine kill NAME",
            page=Page.HOST_DISK_FULL,
        )


async def _power_off_over_ssh(means: Means, limits: Limits) -> bool:
    begun = time.monotonic()
    while not await means.log_in_and_power_off():
        if await means.ended(_LOGIN_PAUSE_S):
            return True
        if time.monotonic() - begun > min(limits.power_down_s, limits.login_s):
            return False
    return await means.ended(max(0.0, begun + limits.power_down_s - time.monotonic()))
