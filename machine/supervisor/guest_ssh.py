"""The SSH connection to the guest, and what the supervisor does over it."""

from __future__ import annotations

import asyncio
import logging

from machine.errors import MachineError, reason_of
from machine.folders.server import FolderServer
from machine.model.ports import Driver
from machine.podman import api
from machine.ports.forwarding import Forwarding
from machine.ssh.power_off import power_off
from machine.supervisor.events import (
    ApiAnswered,
    ApiFailed,
    FoldersChanged,
    GuestClockSet,
    MasterLost,
    MasterUp,
    MountAttempted,
    SshUnanswered,
)
from machine.supervisor.guest_sockets import GuestSockets
from machine.supervisor.master import Master
from machine.supervisor.record import RecordKeeper
from machine.supervisor.tasks import Tasks
from machine.supervisor.tracker import LifeTracker

log = logging.getLogger(__name__)

_PING_S = 60.0


class GuestSsh:
    """Connects to the guest, mounts folders there, probes its Podman API, sets its clock, and posts results as events.

    At most one SSH master and one probe of the API run at a time. A new master ends the old master, and a new probe
    ends the old probe.
    """

    def __init__(
        self,
        master: Master,
        *,
        tasks: Tasks,
        life: LifeTracker,
        record: RecordKeeper,
        ports: Forwarding,
        folders: FolderServer,
        sockets: GuestSockets,
    ) -> None:
        self._master = master
        self._life = life
        self._record = record
        self._ports = ports
        self._folders = folders
        self._sockets = sockets
        self._tasks = tasks
        self._master_task: asyncio.Task[None] | None = None
        self._probe_task: asyncio.Task[None] | None = None

    def connect(self, *, after_s: float) -> None:
        """End the current SSH master, if there is one, and start a new SSH master after `after_s` seconds."""
        self.disconnect()
        self._master_task = self._tasks.run(self._run_master(after_s))

    @property
    def place(self) -> str:
        """Where the guest's SSH server listens, for people."""
        return self._master.target.place

    async def await_greeting(self) -> None:
        """Wait until the guest's SSH server greets a connection."""
        await self._master.await_greeting()

    def disconnect(self) -> None:
        """End the current SSH master, if there is one."""
        if self._master_task:
            self._master_task.cancel()
        self._master_task = None

    async def end(self) -> None:
        """End the current SSH master, if there is one, and wait until it has ended."""
        task = self._master_task
        self.disconnect()
        if task:
            await asyncio.wait([task])

    def probe_api(self, *, after_s: float) -> None:
        """After `after_s` seconds, send a ping to Podman over each of the machine's two API sockets on this host."""
        self.cancel_probe()
        self._probe_task = self._tasks.run(self._probe_api(after_s))

    def cancel_probe(self) -> None:
        """Stop asking the Podman sockets."""
        if self._probe_task:
            self._probe_task.cancel()
        self._probe_task = None

    def close(self) -> None:
        """End the SSH master and the probe of the API, if they are running."""
        self.disconnect()
        self.cancel_probe()

    async def _run_master(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            reason = await self._master.run(
                expects_delay=self._life.current.failures > 0,
                on_up=self._master_is_up,
                on_silence=lambda cause: self._life.post(SshUnanswered(cause=cause)),
            )
        except Exception as error:
            self._life.post(MasterLost(reason=reason_of(error)))
            raise  # to Tasks
        finally:
            self._ports.on_driver_down(Driver.SSH)
        self._life.post(MasterLost(reason=reason))

    async def _master_is_up(self) -> None:
        self._life.post(MasterUp())
        await self._ports.on_driver_up(Driver.SSH)

    async def mount_folders(self) -> None:
        """Make the guest mount the machine's folders, unmount all others, and link its API sockets."""
        try:
            if not self._folders.is_empty or self._record.current.pending.guest_outdated:
                await self._folders.mount()
            else:
                await self._sockets.provide()
            self._folders.report()
        except (MachineError, OSError) as error:
            problem = f"the host's folders cannot be mounted: {reason_of(error)}"
            self._life.post(FoldersChanged(problem=problem))
        finally:
            self._life.post(MountAttempted())

    async def _probe_api(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            async with asyncio.TaskGroup() as pings:
                for socket in self._sockets.on_host:
                    pings.create_task(api.ping(socket, timeout_s=_PING_S))
        except* Exception as group:
            self._life.post(ApiFailed(reason=reason_of(group.exceptions[0])))
            if not all(isinstance(error, MachineError) for error in group.exceptions):
                raise  # to Tasks
        else:
            self._life.post(ApiAnswered())

    async def set_guest_clock(self, *, tests_master: bool) -> None:
        """Set the guest's clock. With `tests_master`, a failure means that the SSH master is lost.

        If the guest has been paused again meanwhile, a failure means nothing.
        """
        task = self._master_task
        if await self._master.set_guest_clock(in_doubt=tests_master):
            self._life.post(GuestClockSet())
        elif tests_master and self._master_task is task and self._life.current.pause is None:
            self._life.post(MasterLost(reason="the connection did not survive a pause of the guest"))

    async def power_off(self) -> bool:
        """Tell the guest over a new connection to power off, and return whether the guest has accepted that."""
        return await power_off(self._master.target, patience=self._master.patience)
