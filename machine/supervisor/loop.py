"""Wait for a machine's events, have `lifecycle.step` decide about them, and carry out the resulting actions."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from machine.errors import GuestError, MachineError
from machine.folders.server import FolderServer
from machine.model.host import Accelerator
from machine.model.record import MachineRecord
from machine.ports.forwarding import Forwarding
from machine.ports.published import PublishedPorts
from machine.qemu import shutdown
from machine.qemu.shutdown import Ending, Means
from machine.store.paths import MachinePaths
from machine.supervisor.actions import (
    Action,
    Connect,
    Disconnect,
    ExamineGuest,
    FailStart,
    Finish,
    LeaveDegraded,
    MountFolders,
    PowerDown,
    ProbeApi,
    QuietPodman,
    RefuseAdoption,
    RenewDeadline,
    ReportUp,
    SetGuestClock,
)
from machine.supervisor.base_check import BaseCheck
from machine.supervisor.commands import Commands
from machine.supervisor.console_watch import ConsoleWatch, PanicWatch
from machine.supervisor.containers import ContainerWait
from machine.supervisor.diagnosis import Diagnosis
from machine.supervisor.events import (
    CleanedUp,
    DeadlinePassed,
    GuestFailed,
    GuestPanicked,
    GuestReady,
    MonitorLost,
    QemuExited,
    StopFailed,
)
from machine.supervisor.evidence import FailureWatch
from machine.supervisor.failure import damaged_base_error, degraded_error, start_error
from machine.supervisor.guest_check import GuestCheck
from machine.supervisor.guest_names import GuestNames
from machine.supervisor.guest_ssh import GuestSsh
from machine.supervisor.phases import Phase
from machine.supervisor.process import AdoptedQemu, ChildQemu
from machine.supervisor.progress import ProgressBroadcaster
from machine.supervisor.qmp import QmpLink, QmpSessions
from machine.supervisor.record import RecordKeeper
from machine.supervisor.servers import Servers
from machine.supervisor.tasks import Tasks
from machine.supervisor.tracker import LifeTracker

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Supervisor:
    """Supervises one machine until its QEMU ends. QEMU is started by this supervisor, or is running already."""

    paths: MachinePaths
    accelerator: Accelerator
    hypervisor: str | None
    """The versions of QEMU and macOS if HVF accelerates the guest, else None."""

    patience: int
    """The factor by which the deadlines of a start and a stop are longer than usual."""

    life: LifeTracker
    record: RecordKeeper
    qemu: ChildQemu | AdoptedQemu
    link: QmpLink
    qmp: QmpSessions
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

    failure_watch: FailureWatch
    base_check: BaseCheck
    containers: ContainerWait
    console_watch: ConsoleWatch
    panic_watch: PanicWatch
    guest_check: GuestCheck

    heartbeat_s: float
    """How often the shared directories of the host and the record's file are checked.

    A guest that does not report that it is ready is asked for a greeting as often.
    """

    tasks: Tasks
    """The group of the background tasks. `run` enters the group, and waits until all tasks have ended."""

    _finished: bool = field(default=False, init=False)
    _error: MachineError | None = field(default=None, init=False)
    _ending: Ending = field(default=Ending.POWERED_DOWN, init=False)
    _deadline: asyncio.TimerHandle | None = field(default=None, init=False)

    async def run(self) -> MachineError | None:
        """Supervise the machine until QEMU has ended. Return the error if the start has failed, else None."""
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
                self.qemu.send_signal(signal.SIGKILL)
            raise
        finally:
            self.servers.close()
            if self.names:
                self.names.close()
        await self.folders.end()
        await self._report_end()
        await self.servers.finish()
        return self._error

    async def _begin(self) -> list[asyncio.Task[None]]:
        """Start QEMU, or take over a running QEMU, and return the tasks that run as long as QEMU does."""
        self._set_deadline()
        work = [
            self.qmp.run,
            self.servers.keep_open,
            self.ports.retry_failed,
            self.published.keep_checking,
            self._watch_qemu,
            self._watch_sources,
            self._watch_record,
            self._watch_panic,
            self._watch_evidence,
            self.guest_check.watch,
        ]
        if not self.record.current.config.has_our_units:
            work.append(self._watch_greeting)
        try:
            if isinstance(self.qemu, ChildQemu):
                await self._start(self.qemu)
                work += [self._watch_console, self._watch_silence]
            else:
                self._take_over()
        except MachineError as error:
            self._error = error
            self._finished = True
            return []
        return [self.tasks.keep(watch) for watch in work]

    async def _start(self, qemu: ChildQemu) -> None:
        self.ports.preload(self.record.current.config.forwards)
        await self.folders.start_daemons(qemu.lock_descriptor)
        self.starting.step(f"Booting the guest{_first_boot_note(self.record.current)}")
        await qemu.start()

    def _take_over(self) -> None:
        if not self.paths.qmp_socket.exists():
            self.life.post(MonitorLost())
        self.failure_watch.forget_earlier_boots()
        self.ports.take_over()
        self.ports.preload(self.record.current.config.forwards)
        self.connection.connect(after_s=0)

    async def _watch_qemu(self) -> None:
        self.life.post(QemuExited(cause=await self.qemu.wait()))

    async def _watch_sources(self) -> None:
        await self.folders.watch_sources(every_s=self.heartbeat_s)

    async def _watch_record(self) -> None:
        await self.record.keep_readable(every_s=self.heartbeat_s)

    async def _watch_panic(self) -> None:
        """Watch the console for a panic of the guest's kernel as long as QEMU runs."""
        await self.panic_watch.watch(lambda message: self.life.post(GuestPanicked(message=message)))

    async def _watch_evidence(self) -> None:
        """At every boot, watch the console and Ignition's journal for a failure of the guest."""
        while True:
            failure = await self.failure_watch.wait(
                is_needed=self._may_fail_to_boot, resets=lambda: self.life.current.boot_renewals
            )
            if failure and self._may_fail_to_boot():
                self.life.post(GuestFailed(cause=failure.cause))
            await asyncio.sleep(self.heartbeat_s)

    def _may_fail_to_boot(self) -> bool:
        return self.life.current.start_pending or self.life.current.phase is Phase.BOOT

    async def _watch_console(self) -> None:
        await self.console_watch.watch(is_booting=lambda: self._is_booting)

    async def _watch_silence(self) -> None:
        """If the boot shows nothing, find out whether the base image is damaged."""
        damage = await self.base_check.damage_of_silent_boot(is_needed=lambda: self._is_booting)
        if damage and self._is_booting:
            self.life.post(GuestFailed(cause=damage))

    @property
    def _is_booting(self) -> bool:
        return self.life.current.start_pending and self.life.current.phase in (Phase.LAUNCH, Phase.BOOT)

    async def _watch_greeting(self) -> None:
        """At every boot, treat a greeting of the guest's SSH server as the report that the guest is ready.

        A greeting does not prove that the user can log in. That is why the record says only later, when the machine is
        up, that the guest is provisioned. If the machine does not come up, the user can correct the config, and the
        next start begins with a fresh disk.
        """
        while True:
            if self.life.current.phase is Phase.BOOT:
                await self.connection.await_greeting()
                if self.life.current.phase is Phase.BOOT:
                    self.life.post(GuestReady())
            await asyncio.sleep(self.heartbeat_s)

    async def _advance(self) -> None:
        """Wait for the next event, and carry out the actions that it requires."""
        before = self.life.current
        actions = await self.life.advance()
        life = self.life.current
        if life.start_pending and life.pause and life.pause is not before.pause:
            self.starting.notice(_sentence(life.pause.explanation))
        if life.phase is not before.phase:
            self._set_deadline()
            if life.phase is Phase.BOOT and before.phase is not Phase.LAUNCH:
                self.failure_watch.forget_earlier_boots()
            if life.start_pending and life.phase in (Phase.SSH, Phase.FOLDERS, Phase.API):
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
            case PowerDown(at_once=at_once):
                self.stopping.step("Waiting for VM to exit...")
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
        await self.record.note_up()
        for problem in self.life.current.problems:
            self.starting.notice(_sentence(problem))
        if isinstance(self.qemu, ChildQemu):
            await self.containers.wait(self.starting)
        self.starting.ok()
        if isinstance(self.qemu, AdoptedQemu):
            self.published.check_inherited()

    async def _power_down(self, *, at_once: bool) -> None:
        hangs = self.folders.hangs
        limits = shutdown.choose_limits(self.accelerator, patience=self.patience, at_once=at_once, may_hang=hangs)
        if hangs and not at_once:
            self.stopping.notice(f"A virtiofsd has ended, so the guest may hang and gets {limits.power_down_s:.0f} s")
        try:
            ending = await shutdown.shut_down(self._means(), limits)
        except MachineError as error:  # the supervisor stays as long as QEMU does
            self.stopping.error(error)
            self.life.post(StopFailed())
            return
        if not at_once:
            self._ending = ending

    def _means(self) -> Means:
        return Means(
            monitor=self.link.client,
            log_in_and_power_off=self.connection.power_off,
            send_signal=self.qemu.send_signal,
            ended=self.qemu.ends_within,
        )

    async def _clean_up(self) -> None:
        """End QEMU after a failed start."""
        try:
            limits = shutdown.choose_limits(self.accelerator, patience=self.patience, at_once=True)
            await shutdown.shut_down(self._means(), limits)
        except MachineError as error:
            log.error("%s", error.line)
        if self.life.current.phase is Phase.BOOT and (damage := await self.base_check.damage()):
            self._error = damaged_base_error(self.record.current, damage)
        self.life.post(CleanedUp())

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


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _first_boot_note(record: MachineRecord) -> str:
    if record.guest.provisioned:
        return ""
    downloads = record.config.provisioning.download_s > 0
    return f" for the first time{', which installs Podman if it is missing' if downloads else ''}"
