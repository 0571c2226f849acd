"""Save the memory of a running guest and end QEMU, and load the memory again into a new QEMU."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psutil

from machine import lock
from machine.deadline import Deadline
from machine.errors import DiskError, GuestError, MachineError, Page
from machine.folders.server import FolderServer
from machine.model.arch import Arch
from machine.model.hardware import Hardware, Suspension
from machine.model.ports import Driver, SocketPath
from machine.model.units import bytes_size
from machine.ports.forwarding import Forwarding
from machine.qemu import folder_devices, hotplug, memory, monitor
from machine.qemu.boards import BOARDS
from machine.qemu.monitor import Monitor
from machine.store.paths import MachinePaths
from machine.store.suspension import begin_suspension, commit_suspension, mark_of
from machine.supervisor.doors import Place
from machine.supervisor.guest_ssh import GuestSsh
from machine.supervisor.kept_doors import KeptDoors
from machine.supervisor.qmp import QmpLink, let_run

log = logging.getLogger(__name__)

# The guest must let go of its devices within this time, multiplied by the time scale.
_UNPLUG_S = 15.0
# The rest of the memory's time follows from its size.
_MIN_SAVE_S = 60.0
_MIN_BYTES_S = 5 * 10**6
# QEMU writes the state of its devices beside the memory.
_DEVICES_BYTES = 64 * 1024**2


@dataclass(frozen=True, kw_only=True)
class SuspendSettings:
    """What a suspend needs to know about the machine."""

    paths: MachinePaths
    arch: Arch
    hardware: Hardware | None
    """What QEMU was started with. None if a program that could not suspend machines has started this QEMU."""

    resumes: bool
    """Whether QEMU was started to load a saved memory, so that no folder is plugged in yet."""

    lock: int | None
    """The descriptor of the machine's lock, if this supervisor has it."""

    time_scale: int
    places: Callable[[], Sequence[Place]]
    """Returns where clients of the machine can come while it sleeps."""

    bound: Mapping[Place, Place]
    """What ssh calls the API sockets, and their own places."""


class InUseError(MachineError):
    """The machine is not suspended because a client has come."""


class Suspender:
    """Suspends a machine, and resumes a machine whose QEMU has been started to load the memory.

    Folders are unmounted and their devices unplugged, because QEMU cannot save the state of 9p and of most virtiofsd.
    Folders that are in use stay mounted where QEMU and every virtiofsd can pass that state on.
    """

    def __init__(
        self,
        settings: SuspendSettings,
        *,
        link: QmpLink,
        folders: FolderServer,
        connection: GuestSsh,
        ports: Forwarding,
        kept: KeptDoors,
        is_in_use: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._link = link
        self._folders = folders
        self._connection = connection
        self._ports = ports
        self._kept = kept
        self._is_in_use = is_in_use
        self._keeps_folders = False
        if settings.resumes:
            link.is_settled.clear()

    async def begin(self) -> None:
        """Check that the machine can be suspended, and unmount its folders in the guest if nothing uses them.

        Raises:
            MachineError: the machine cannot be suspended. Nothing has changed.
        """
        if self._settings.hardware is None:
            raise MachineError(
                "it was started by an earlier version of this program", hint="restart the machine and try again"
            )
        self._link.session()
        self._check_space()
        obstacle = await self._folders.release()
        self._keeps_folders = obstacle is not None and await self._can_keep_folders()
        if obstacle and not self._keeps_folders:
            raise GuestError(obstacle.reason, hint=obstacle.remedy)

    async def _can_keep_folders(self) -> bool:
        """Return whether QEMU can save the state of the folders. One that was removed still has its device."""
        client = self._link.session()
        return (
            all(each.can_stay_mounted for each in self._folders.folders)
            and len(await folder_devices.plugged(client)) == len(self._folders.shares)
            and await memory.can_keep_folders(client)
        )

    async def suspend(self, *, if_idle: bool) -> None:
        """Save the guest's memory. When this returns, the machine is suspended as soon as QEMU has ended.

        `begin` must have succeeded. Clients that come from now on wait until the machine wakes, or runs on. With
        `if_idle`, the machine runs on if one has come since it was found idle.

        Raises:
            MachineError: the memory cannot be saved. The guest runs on, without its folders and its SSH master.
        """
        paths, hardware, client = self._settings.paths, self._settings.hardware, self._link.session()
        assert hardware is not None
        try:
            if not self._keeps_folders:
                await self._unplug(client)
            if obstacles := await memory.obstacles(client):
                raise MachineError(f"QEMU cannot save the memory: {'; '.join(obstacles)}")
            await self._keep_doors(if_idle=if_idle)
            await self._save(client, hardware)
        except BaseException:
            await self._run_on(client)
            raise
        log.info("the memory is saved in %s", paths.memory)

    async def _keep_doors(self, *, if_idle: bool) -> None:
        """Keep clients waiting from now on, and end the SSH master.

        Raises:
            InUseError: with `if_idle`, somebody uses the machine. Nothing has changed.
        """
        found = await asyncio.to_thread(self._ports.duplicates)
        self._kept.keep({self._settings.bound.get(place, place): listener for place, listener in found.items()})
        if if_idle and await asyncio.to_thread(self._is_in_use):
            self._kept.close()  # QEMU and ssh still listen
            raise InUseError("a client has come")
        wanted = self._settings.places()
        self._kept.listen_at_others([place for place in wanted if isinstance(place, SocketPath)])  # ssh still listens
        await self._ports.retire(self._kept)
        await self._connection.end()
        self._kept.listen_at_others(wanted)

    async def _save(self, client: Monitor, hardware: Hardware) -> None:
        paths = self._settings.paths
        version, machine_type = await memory.version(client), await memory.machine_type(client)
        suspension = Suspension(
            hardware=replace(hardware, machine_type=machine_type, keeps_folders=self._keeps_folders),
            qemu=".".join(map(str, version)),
            disk=None,
            suspended=datetime.now(UTC),
        )
        await asyncio.to_thread(begin_suspension, paths, suspension)
        await monitor.execute(client, "stop")
        limit_s = (_MIN_SAVE_S + self._memory_bytes() / _MIN_BYTES_S) * client.patience
        deadline = Deadline.after(limit_s, "QEMU to save the memory")
        await memory.save(client, paths.memory_in_work, deadline)
        await asyncio.to_thread(commit_suspension, paths, replace(suspension, disk=mark_of(paths.disk)))

    async def _run_on(self, client: Monitor) -> None:
        """Let the guest run on after a suspend has failed. The folders are mounted after the next connection."""
        try:
            await self._continue(client)
            await self._plug_in(client)
        except MachineError as error:
            log.error("after a suspend that failed: %s", error.line)

    async def resume(self) -> None:
        """Wait until QEMU has loaded the memory, plug in the folders, and let the guest run on.

        Raises:
            MachineError: QEMU has not loaded the memory, or rejects a command.
        """
        client = self._link.session()
        await memory.load(client, self._settings.paths.memory)
        await self._plug_in(client)
        self._link.is_settled.set()
        await self._continue(client)

    async def _continue(self, client: Monitor) -> None:
        """Let the guest run, and open its ports."""
        await let_run(client, self._settings.paths)
        await self._ports.on_driver_up(Driver.SLIRP)  # the SSH master needs the guest's SSH port

    async def _unplug(self, client: Monitor) -> None:
        deadline = Deadline.after(_UNPLUG_S * self._settings.time_scale, "the guest to let go of its folders' devices")
        self._folders.daemons.forget()
        await hotplug.unplug(client, deadline)
        await self._folders.daemons.end()

    async def _plug_in(self, client: Monitor) -> None:
        if not self._folders.shares or await folder_devices.plugged(client):
            return
        if not self._folders.daemons.are_running:
            await self._folders.start_daemons(self._settings.lock)
        await hotplug.plug_in(client, BOARDS[self._settings.arch], self._folders.shares)

    def _check_space(self) -> None:
        """Check that the memory fits on the disk.

        Raises:
            DiskError: the memory does not fit.
        """
        needed = self._memory_bytes() + _DEVICES_BYTES
        directory = self._settings.paths.directory
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise DiskError(
                f"its memory takes up to {bytes_size(needed)}, but only {bytes_size(free)} are free on the disk that "
                f"holds {directory}",
                hint="free some space and try again",
                page=Page.HOST_DISK_FULL,
            )

    def _memory_bytes(self) -> int:
        """Return how much memory QEMU uses. It is an upper limit for the memory of the guest that is to be saved."""
        pid = lock.holder_pid(self._settings.paths.lock)
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error as error:
            raise MachineError("it is not known how much memory QEMU uses") from error
