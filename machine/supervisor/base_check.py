"""Find out whether the base image of a machine's disk is damaged, when it has changed or the guest does not boot."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from machine.errors import MachineError
from machine.image.intact import Condition, examine, has_changed
from machine.supervisor.evidence import BootStage, boot_stage

log = logging.getLogger(__name__)


class BaseCheck:
    """Compares a base image with its digest, at most once during a start."""

    def __init__(
        self,
        image: Path | None,
        serial_log: Path,
        on_step: Callable[[str], None],
        *,
        patience_s: float,
        every_s: float,
    ) -> None:
        """Make the check for a disk on top of the base image `image`, or for a disk without one if it is None.

        A boot may show nothing on the console for `patience_s`. `on_step` is called before the image is read.
        """
        self._image = image
        self._serial_log = serial_log
        self._on_step = on_step
        self._patience_s = patience_s
        self._every_s = every_s
        self._reading: asyncio.Task[bool] | None = None

    async def damage_at_boot(self, *, is_needed: Callable[[], bool]) -> str | None:
        """Wait until a boot has been silent for too long, and return what `damage` returns.

        Do not wait if the image's size or time of change is not as noted, since a guest with a part of its programs may
        boot for minutes. Return None as soon as the console shows a kernel, or `is_needed` returns False.
        """
        if self._image and has_changed(self._image):
            return await self.damage()
        until = asyncio.get_running_loop().time() + self._patience_s
        while is_needed() and boot_stage(self._serial_log) is not BootStage.KERNEL:
            if asyncio.get_running_loop().time() >= until:
                return await self.damage()
            await asyncio.sleep(self._every_s)
        return None

    async def damage(self) -> str | None:
        """Return the damage of the base image in a few words, or None if the image is intact or there is none."""
        if self._image is None:
            return None
        if self._reading is None:
            self._on_step("Comparing the base image with its digest")
            self._reading = asyncio.create_task(_is_damaged(self._image))
        damaged = await asyncio.shield(self._reading)
        return f"the base image {self._image} is damaged" if damaged else None


async def _is_damaged(image: Path) -> bool:
    ended = threading.Event()

    def check(_: int) -> None:
        if ended.is_set():
            raise MachineError("nobody waits for the check of the base image any more")

    log.info("reading %s", image)
    try:
        condition = await asyncio.to_thread(examine, image, check)
    except MachineError as error:  # a disk that fails, or no file
        log.warning("%s", error.line)
        return True
    finally:
        ended.set()
    log.info("%s is %s", image, condition)
    return condition is Condition.DAMAGED
