"""The QEMU process of a machine, which is a child of this supervisor or has outlived an earlier supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from machine import async_runner, lock
from machine.async_runner import Child
from machine.files import disk_errors, open_created
from machine.providers.computer import Computer
from machine.qemu import shutdown
from machine.qemu.monitor import Monitor
from machine.qemu.shutdown import Ending, Limits, Means


class QemuProcess(Computer):
    """A QEMU process."""

    async def shut_down(
        self, monitor: Monitor | None, log_in_and_power_off: Callable[[], Awaitable[bool]], limits: Limits
    ) -> Ending:
        means = Means(
            monitor=monitor,
            log_in_and_power_off=log_in_and_power_off,
            send_signal=self.send_signal,
            ended=self.ends_within,
        )
        return await shutdown.shut_down(means, limits)


class ChildQemu(QemuProcess):
    """A QEMU process that is a child of this supervisor, and that inherits the descriptor of the machine's lock."""

    def __init__(self, argv: Sequence[str], *, output: Path, lock_descriptor: int | None) -> None:
        super().__init__()
        self._argv = argv
        self._output = output
        self.lock_descriptor = lock_descriptor
        self._child: Child | None = None

    async def start(self) -> None:
        """Start QEMU, and write its process ID into the machine's lock.

        Raises:
            MachineError: QEMU cannot be started.
        """
        descriptor = self.lock_descriptor
        with disk_errors(self._output), open_created(self._output, "wb") as output:
            self._child = await async_runner.spawn(
                self._argv, stdout=output, stderr=output, pass_fds=() if descriptor is None else (descriptor,)
            )
        if descriptor is not None:
            lock.write_holder(descriptor, self._child.pid)

    def send_signal(self, number: signal.Signals) -> None:
        if self._child:
            self._child.send_signal(number)

    async def _wait(self) -> str | None:
        if self._child is None:
            return None
        return _last_message(await self._child.wait(), self._output)


class AdoptedQemu(QemuProcess):
    """A QEMU process that an earlier supervisor has started. It holds the machine's lock until it ends."""

    def __init__(self, lock_file: Path, *, poll_s: float) -> None:
        super().__init__()
        self._lock_file = lock_file
        self._poll_s = poll_s

    async def start(self) -> None:
        """Do nothing, because QEMU runs already."""

    def send_signal(self, number: signal.Signals) -> None:
        lock.signal_holder(self._lock_file, number)

    async def _wait(self) -> str | None:
        while lock.is_held(self._lock_file):
            await asyncio.sleep(self._poll_s)
        return None


def _last_message(status: int, output: Path) -> str | None:
    """Return how QEMU failed, with the last line of its output. Return None if its exit status is 0."""
    if status == 0:
        return None
    lines: list[str] = []
    with contextlib.suppress(OSError):  # the log was removed
        lines = output.read_text(errors="replace").strip().splitlines()
    ending = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
    return f"QEMU {ending}" + (f": {lines[-1]}" if lines else "")
