"""Run a virtiofsd for each folder that needs one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from machine import async_runner
from machine.async_runner import Child
from machine.files import disk_errors, open_created
from machine.folders.probe import make_listener, with_listener
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder


class VirtiofsDaemons:
    """The virtiofsd processes of a machine.

    When a virtiofsd ends, `on_exit` is called with its folder and a sentence that says so.
    """

    def __init__(self, log_file: Path, *, on_exit: Callable[[Folder, str], None]) -> None:
        self._log_file = log_file
        self._on_exit = on_exit
        self._running: dict[asyncio.Task[None], Child] = {}

    async def start(self, folders: Iterable[MountedFolder], lock: int | None) -> None:
        """Start a virtiofsd for each folder that needs one. Each inherits the machine's lock, and ends with QEMU.

        Raises:
            MachineError: virtiofsd cannot be run, or its log cannot be written.
        """
        with disk_errors(self._log_file):
            self._log_file.unlink(missing_ok=True)
        for each in folders:
            if each.virtiofsd:
                child = await self._spawn(each, () if lock is None else (lock,))
                self._running[asyncio.create_task(self._watch(each.folder, child))] = child

    async def _spawn(self, mounted: MountedFolder, descriptors: tuple[int, ...]) -> Child:
        with (
            make_listener(mounted.socket) as listener,
            disk_errors(self._log_file),
            open_created(self._log_file, "ab") as output,
        ):
            return await async_runner.spawn(
                with_listener(mounted.virtiofsd, listener),
                stdout=output,
                stderr=output,
                pass_fds=(*descriptors, listener.fileno()),
            )

    async def _watch(self, folder: Folder, child: Child) -> None:
        status = await child.wait()
        self._report(folder, f"was killed by signal {-status}" if status < 0 else f"has exited with status {status}")

    def report_end(self, folder: Folder) -> None:
        """Report the end of a virtiofsd that another supervisor has started."""
        self._report(folder, "has ended")

    def _report(self, folder: Folder, ending: str) -> None:
        self._on_exit(folder, f"virtiofsd for {folder.source} {ending}; restart the machine to share the folder again")

    @property
    def are_running(self) -> bool:
        """Whether virtiofsd processes have been started and not ended by `end`."""
        return bool(self._running)

    def forget(self) -> None:
        """From now on, report no ends of virtiofsd to `on_exit`."""
        for task in self._running:
            task.cancel()

    async def end(self) -> None:
        """End each virtiofsd that has not ended with QEMU or with its device."""
        async with asyncio.TaskGroup() as ending:
            for child in self._running.values():
                ending.create_task(child.end())
        self._running.clear()
