"""Wait for a machine's events, have `lifecycle.step` decide about them, and carry out the resulting actions."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from machine.errors import GuestError, MachineError, reason_of
from machine.folders.server import FolderServer
from machine.model.host import Accelerator
from machine.ports.forwarding import Forwarding
from machine.ports.published import PublishedPorts
from machine.providers.computer import Computer
from machine.providers.qemu import ChildQemu
from machine.providers.remote import RemoteComputer
from machine.qemu import shutdown
from machine.qemu.shutdown import Ending, Limits
from machine.store.paths import MachinePaths, is_suspended
from machine.supervisor.actions import (
    Action,
    Connect,
    Disconnect,
    ExamineGuest,
    FailStart,
    Finish,
    LeaveDegraded,
    LoadMemory,
    MountFolders,
    PowerDown,
    ProbeApi,
    QuietPodman,
    RefuseAdoption,
    RenewDeadline,
    ReportUp,
    SaveMemory,
    SetGuestClock,
)
from machine.supervisor.commands import Commands
from machine.supervisor.containers import ContainerWait
from machine.supervisor.diagnosis import Diagnosis
from machine.supervisor.doors import ssh_place
from machine.supervisor.events import (
    CleanedUp,
    DeadlinePassed,
    GuestFailed,
    MemoryLoaded,
    MonitorLost,
    QemuExited,
    StopFailed,
    SuspendFailed,
)
from machine.supervisor.failure import damaged_base_error, degraded_error, start_error
from machine.supervisor.guest_check import GuestCheck
from machine.supervisor.guest_names import GuestNames
from machine.supervisor.guest_ssh import GuestSsh
from machine.supervisor.handover import Handover
from machine.supervisor.inherited_folders import watch_inherited_folders
from machine.supervisor.kept_doors import KeptDoors
from machine.supervisor.phases import Phase
from machine.supervisor.progress import ProgressBroadcaster, boot_step, sentence
from machine.supervisor.qmp import QmpLink
from machine.supervisor.record import RecordKeeper
from machine.supervisor.servers import Servers
from machine.supervisor.suspend import InUseError, Suspender
from machine.supervisor.tasks import Tasks
from machine.supervisor.tracker import LifeTracker
from machine.supervisor.watches import GuestWatches

log = logging.getLogger(__name__)

# A QEMU that has failed closes its monitor this much earlier than it ends.
_LAST_WORDS_S = 3.0
# A guest that could not be suspended can be reached again within this time.
_AWAKE_S = 300.0


@dataclass(kw_only=True, eq=False)
class Supervisor:
    """Supervises one machine until its computer ends. It is started by this supervisor, or is running already."""

    paths: MachinePaths
    accelerator: Accelerator
    hypervisor: str | None
    """The versions of QEMU and macOS if HVF accelerates the guest, else None."""

    patience: int
    """The factor by which the deadlines of a start and a stop are longer than usual."""

    life: LifeTracker
    record: RecordKeeper
    computer: Computer
    link: QmpLink
    connection: GuestSsh
    names: GuestNames | None
    ports: Forwarding
    published: PublishedPorts
    folders: FolderServer
    commands: Commands
    servers: Servers

    starting: ProgressBroadcaster
    """Reports to the `machine start` that waits until the machine is up."""

    stopping: ProgressBroadcaster
    """Reports to the commands that wait until the machine has stopped."""

    watches: GuestWatches
    containers: ContainerWait
    watching: Sequence[Callable[[], Awaitable[None]]]
    """What watches the computer and its guest as long as it runs, besides what every machine has watched."""

    handover: Handover
    kept: KeptDoors
    suspender: Suspender
    guest_check: GuestCheck

    heartbeat_s: float
    """How often the shared directories of the host and the record's file are checked."""

    tasks: Tasks
    """The group of the background tasks. `run` enters the group, and waits until all tasks have ended."""

    _finished: bool = field(default=False, init=False)
    _error: MachineError | None = field(default=None, init=False)
    _ending: Ending = field(default=Ending.POWERED_DOWN, init=False)
    _deadline: asyncio.TimerHandle | None = field(default=None, init=False)

    async def run(self) -> MachineError | None:
        """Supervise the machine until its computer has ended. Return the error if the start has failed, else None."""
        await self.servers.open()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, partial(self.commands.stop, at_once=False))
        try:
            async with self.tasks:
                background = await self._begin()
                while not self._finished:
                    try:
                        await self._advance()
                    except Exception as error:  # noqa: BLE001  (logged, or raised again)
                        self.tasks.tolerate(error)
                for task in background:
                    task.cancel()
                self.connection.close()
        except BaseException:
            # A bug of ours must not end a guest that has been up, but must end one that has not.
            if not self.life.current.was_up:
                self.computer.send_signal(signal.SIGKILL)
            raise
        finally:
            self.servers.close()
            if self.names:
                self.names.close()
        await self.folders.end()
        await self._report_end()
        if not is_suspended(self.paths):
            self.kept.close()
        await self.servers.finish(self.kept.paths)
        return self._error

    async def _begin(self) -> list[asyncio.Task[None]]:
        """Start the computer, or take over a running one, and return the tasks that run as long as it does."""
        self._set_deadline()
        work: list[Callable[[], Awaitable[None]]] = [
            *self.watching,
            self.servers.keep_open,
            self.ports.retry_failed,
            self.published.keep_checking,
            self._watch_computer,
            partial(self.folders.watch_sources, every_s=self.heartbeat_s),
            partial(self.record.keep_readable, every_s=self.heartbeat_s),
            self._watch_removal,
        ]
        try:
            match self.computer:
                case ChildQemu():
                    await self._start()
                    work += [self.watches.watch_console, self.watches.watch_base]
                case RemoteComputer():
                    self._reach()
                case _:
                    self._take_over()
                    work.append(partial(watch_inherited_folders, self.link, self.folders, every_s=self.heartbeat_s))
        except MachineError as error:
            self._error = error
            self._finished = True
            return []
        return [self.tasks.keep(watch) for watch in work]

    async def _start(self) -> None:
        if self.life.current.resumes:
            self.ports.load()
        self.ports.preload(self.record.current.config.forwards)
        await self.folders.start_daemons(self.computer.lock_descriptor)
        if not self.life.current.resumes:
            self.starting.step(boot_step(self.record.current))
            # A guest that resumes needs the port only when its memory is loaded.
            await self.handover.release(ssh_place(self.record.current.config.ssh_port))
        await self.computer.start()

    def _reach(self) -> None:
        """Connect to a remote host, which runs already."""
        self.ports.preload(self.record.current.config.forwards)
        self.starting.step(f"Connecting to {self.connection.place}")
        self.connection.connect(after_s=0)

    def _take_over(self) -> None:
        if not self.paths.qmp_socket.exists():
            self.life.post(MonitorLost())
        self.watches.forget_earlier_boots()
        self.ports.take_over()
        self.ports.preload(self.record.current.config.forwards)
        self.connection.connect(after_s=0)

    async def _watch_removal(self) -> None:
        """Shut the guest down when its machine's directory is gone, because no command finds the machine any more."""
        await self.record.await_removal(every_s=self.heartbeat_s)
        log.warning("the machine's directory was removed, so the guest is shut down")
        self.commands.stop(at_once=False)

    async def _watch_computer(self) -> None:
        self.life.post(QemuExited(cause=await self.computer.wait()))

    async def _advance(self) -> None:
        """Wait for the next event, and carry out the actions that it requires."""
        before = self.life.current
        actions = await self.life.advance()
        life = self.life.current
        if life.start_pending and life.pause and life.pause is not before.pause:
            self.starting.notice(sentence(life.pause.explanation))
        if life.phase is not before.phase:
            self._set_deadline()
            if life.phase is Phase.BOOT and before.phase is not Phase.LAUNCH:
                self.watches.forget_earlier_boots()
            if life.start_pending and life.phase.is_told(has_folders=bool(self.record.current.config.folders)):
                self.starting.step(f"Waiting for {life.phase.waits_for}")
        for action in actions:
            self._perform(action)

    def _set_deadline(self) -> None:
        """Replace the deadline that is set by a new deadline of the current phase."""
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        phase = self.life.current.phase
        if phase is Phase.UP:
            return
        record = self.record.current
        download_s = 0.0 if record.guest.provisioned else record.config.provisioning.download_s
        seconds = phase.deadline_s(self.accelerator, patience=self.patience, download_s=download_s)
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.life.post, DeadlinePassed(phase=phase))

    @property
    def deadline(self) -> float | None:
        """When the current phase has taken too long, by the event loop's clock. None if the phase has no deadline."""
        return self._deadline.when() if self._deadline else None

    def _perform(self, action: Action) -> None:  # noqa: C901, PLR0912  (a table)
        match action:
            case Connect(after_s=after_s):
                self.connection.connect(after_s=after_s)
            case Disconnect():
                self.connection.disconnect()
            case MountFolders():
                self.tasks.run(self._mount_folders())
            case ProbeApi(after_s=after_s):
                self.connection.probe_api(after_s=after_s)
            case QuietPodman(in_guest=in_guest):
                self.connection.cancel_probe()
                if in_guest:
                    self.tasks.run(self.guest_check.quiet_podman())
            case SetGuestClock(tests_master=tests_master):
                self.tasks.run(self.connection.set_guest_clock(tests_master=tests_master))
            case ReportUp():
                self.tasks.run(self._report_up())
            case SaveMemory(if_idle=if_idle):
                self.stopping.step("Saving the memory of the guest")
                self.tasks.run(self._suspend(if_idle=if_idle))
            case LoadMemory():
                self.starting.step("Loading the memory of the guest")
                self.tasks.run(self._resume())
            case PowerDown(at_once=at_once):
                self.stopping.step(self._ending_step)
                self.tasks.run(self._power_down(at_once=at_once))
            case FailStart(cause=cause):
                self._error = self._start_error(cause)
                self.tasks.run(self._clean_up())
            case RefuseAdoption(cause=cause):
                self.starting.error(self._start_error(cause))
            case ExamineGuest(deadline=phase):
                self.tasks.run(self.guest_check.examine(is_full=True, deadline=phase))
            case RenewDeadline():
                self._set_deadline()
            case LeaveDegraded(cause=cause, diagnosis=diagnosis):
                self.starting.error(self._degraded_error(cause, diagnosis))
            case Finish():
                self._finished = True
            case _:
                assert_never(action)

    async def _mount_folders(self) -> None:
        if self.names:
            await self.names.provide()
        await self.connection.mount_folders()

    async def _report_up(self) -> None:
        await self.handover.finish()
        await self.record.note_up()
        of_folders = [each.problem for each in self.folders.folders if each.problem]
        for problem in dict.fromkeys([*self.life.current.problems, *of_folders]):
            self.starting.notice(sentence(problem))
        has_booted = isinstance(self.computer, ChildQemu) and not self.life.current.resumes
        if has_booted:
            await self.containers.wait(self.starting)
        self.starting.ok()
        if not has_booted:
            self.published.check_inherited()

    async def _power_down(self, *, at_once: bool) -> None:
        if isinstance(self.computer, RemoteComputer) and self.life.current.phase.is_after_ssh:
            await self._leave_host()
        hangs = self.folders.hangs
        limits = shutdown.choose_limits(self.accelerator, patience=self.patience, at_once=at_once, may_hang=hangs)
        if hangs and not at_once:
            self.stopping.notice(f"A virtiofsd has ended, so the guest may hang and gets {limits.power_down_s:.0f} s")
        try:
            ending = await self._shut_down(limits)
        except MachineError as error:  # the supervisor stays as long as QEMU does
            self.stopping.error(error)
            self.life.post(StopFailed())
            return
        if not at_once:
            self._ending = ending

    async def _leave_host(self) -> None:
        """Take the folders away from a remote host, which goes on without its machine."""
        try:
            await self.folders.take_away()
        except (MachineError, OSError) as error:
            log.warning("the folders stay on the host: %s", reason_of(error))

    async def _suspend(self, *, if_idle: bool) -> None:
        has_begun = False
        try:
            await self.suspender.begin()
            has_begun = True
            await self.suspender.suspend(if_idle=if_idle)
        except MachineError as error:
            log.info("not suspended: %s", error)
            self.stopping.error(error)
            self.life.post(SuspendFailed(changed=has_begun, is_in_use=isinstance(error, InUseError)))
            await self.life.reach(Phase.UP, timeout_s=_AWAKE_S * self.patience)
            await self.kept.give_back()
        else:
            self._ending = Ending.SUSPENDED
            await self._end_computer()

    async def _resume(self) -> None:
        try:
            await self.suspender.resume()
        except MachineError as error:
            if not await self.computer.ends_within(_LAST_WORDS_S):  # its exit says more
                self.life.post(GuestFailed(cause=error.message))
            return
        self.life.post(MemoryLoaded())

    async def _shut_down(self, limits: Limits) -> Ending:
        return await self.computer.shut_down(self.link.client, self.connection.power_off, limits)

    @property
    def _ending_step(self) -> str:
        remote = isinstance(self.computer, RemoteComputer)
        return f"Closing the connection to {self.connection.place}" if remote else "Waiting for VM to exit..."

    async def _clean_up(self) -> None:
        """End the computer after a failed start."""
        await self._end_computer()
        if self.life.current.phase is Phase.BOOT and (damage := await self.watches.base.damage()):
            self._error = damaged_base_error(self.record.current, damage)
        self.life.post(CleanedUp())

    async def _end_computer(self) -> None:
        try:
            limits = shutdown.choose_limits(self.accelerator, patience=self.patience, at_once=True)
            await self._shut_down(limits)
        except MachineError as error:
            log.error("%s", error.line)

    async def _report_end(self) -> None:
        life = self.life.current
        if self._error:
            self.starting.error(self._error)
        elif life.start_pending:
            self.starting.error(GuestError(f'unable to start "{self.record.current.name}": it was stopped'))
        if life.was_up:
            await self.record.note_end()
        self.stopping.ok(ending=self._ending.value)

    def _start_error(self, cause: str) -> GuestError:
        return start_error(self.record.current, self.paths, self.life.current.phase, cause, hypervisor=self.hypervisor)

    def _degraded_error(self, cause: str, diagnosis: Diagnosis | None) -> GuestError:
        name, phase = self.record.current.name, self.life.current.phase
        return degraded_error(name, phase, cause, diagnosis=diagnosis, vitals=self.guest_check.vitals)
