"""Watch a guest for signs that it does not boot, or that its kernel has failed, and post what is found as events."""

from __future__ import annotations

import asyncio

from machine.supervisor.base_check import BaseCheck
from machine.supervisor.console_watch import ConsoleWatch, KernelWatch
from machine.supervisor.events import GuestFailed, GuestPanicked, GuestReady, ProgramKilled
from machine.supervisor.evidence import FailureWatch
from machine.supervisor.guest_ssh import GuestSsh
from machine.supervisor.phases import Phase
from machine.supervisor.tracker import LifeTracker


class GuestWatches:
    """Watches the guest's console, Ignition's journal and SSH server. Each method is the work of a background task."""

    def __init__(
        self,
        life: LifeTracker,
        *,
        failure: FailureWatch,
        base: BaseCheck,
        console: ConsoleWatch,
        kernel: KernelWatch,
        connection: GuestSsh,
        every_s: float,
    ) -> None:
        self._life = life
        self._failure = failure
        self.base = base
        self._console = console
        self._kernel = kernel
        self._connection = connection
        self._every_s = every_s

    def forget_earlier_boots(self) -> None:
        """Leave out what the console showed before this supervisor took the guest over."""
        self._failure.forget_earlier_boots()

    async def watch_kernel(self) -> None:
        """Watch the console for what the guest's kernel says, as long as QEMU runs."""
        await self._kernel.watch(
            on_panic=lambda message: self._life.post(GuestPanicked(message=message)),
            on_kill=lambda program: self._life.post(ProgramKilled(program=program)),
        )

    async def watch_evidence(self) -> None:
        """At every boot, watch the console and Ignition's journal for a failure of the guest."""
        while True:
            failure = await self._failure.wait(
                is_needed=self._may_fail_to_boot, resets=lambda: self._life.current.boot_renewals
            )
            if failure and self._may_fail_to_boot():
                self._life.post(GuestFailed(cause=failure.cause))
            await asyncio.sleep(self._every_s)

    def _may_fail_to_boot(self) -> bool:
        return self._life.current.start_pending or self._life.current.phase is Phase.BOOT

    async def watch_console(self) -> None:
        """While the guest boots, tell the waiting `machine start` what the console shows."""
        await self._console.watch(is_booting=lambda: self._is_booting)

    async def watch_base(self) -> None:
        """If the base image has changed or the boot shows nothing, find out whether the base image is damaged."""
        damage = await self.base.damage_at_boot(is_needed=lambda: self._is_booting)
        if damage and self._is_booting:
            self._life.post(GuestFailed(cause=damage))

    @property
    def _is_booting(self) -> bool:
        return self._life.current.start_pending and self._life.current.phase in (Phase.LAUNCH, Phase.BOOT)

    async def watch_greeting(self) -> None:
        """At every boot, treat a greeting of the guest's SSH server as the report that the guest is ready.

        A greeting does not prove that the user can log in. That is why the record says only later, when the machine is
        up, that the guest is provisioned. If the machine does not come up, the user can correct the config, and the
        next start begins with a fresh disk.
        """
        while True:
            if self._life.current.phase is Phase.BOOT:
                await self._connection.await_greeting()
                if self._life.current.phase is Phase.BOOT:
                    self._life.post(GuestReady())
            await asyncio.sleep(self._every_s)
