"""The supervisor at work: a queue of events, the pure `lifecycle.step`, and the actions it asks for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_never

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate

from machine import lock
from machine.control import Command
from machine.errors import GuestError, MachineError
from machine.folders.server import Folders, Surroundings
from machine.folders.transports import Carried
from machine.model import network
from machine.model.config import MachineConfig
from machine.model.folders import read_folder
from machine.model.host import Accelerator
from machine.model.ports import Driver, PortState, PortStatus, parse_forward
from machine.model.transport import Transport, TransportChoice
from machine.podman import api
from machine.ports import listing
from machine.ports.drivers import Drivers
from machine.ports.forwarding import Forwarding
from machine.ports.server import PortServer
from machine.qemu import monitor, shutdown
from machine.qemu.plan import LaunchPlan
from machine.ssh.command import ROOT, SshTarget, command_argv, control_argv, host_key_alias
from machine.store import records
from machine.store.paths import MachinePaths, make_private
from machine.supervisor import evidence, lifecycle
from machine.supervisor.clock import HostClock
from machine.supervisor.control import ControlServer
from machine.supervisor.lifecycle import Event, Life, Phase
from machine.supervisor.master import Master
from machine.supervisor.progress import Outlet

log = logging.getLogger(__name__)

_QMP_RETRY_S = 0.05
_QMP_GREETING_S = 5.0
_EVIDENCE_EVERY_S = 0.5
# Ignition's journal follows the console's word of emergency mode; how long to wait for it.
_EVIDENCE_PATIENCE_S = 10.0
_LOCK_POLL_S = 1.0
_PING_S = 60.0
_HEARTBEAT_S = 5.0
# With less than this a guest that a full disk has stopped would stop again at once.
_FREE_BYTES = 64 * 1024**2

_QMP_EVENTS = ("RESET", "SHUTDOWN", "STOP", "RESUME")


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What to supervise; `plan` is None where a running QEMU is to be adopted."""

    config: MachineConfig
    paths: MachinePaths
    plan: LaunchPlan | None
    lock: int | None
    tcp_driver: Driver
    carried: Sequence[Carried] = ()

    @property
    def accelerator(self) -> Accelerator:
        # An adopted guest's is not known: the patient one harms nobody.
        return self.plan.accelerator if self.plan else Accelerator.TCG


class Supervisor:
    def __init__(self, assignment: Assignment, starting: Outlet) -> None:
        self._assignment = assignment
        self._paths = assignment.paths
        self._config = assignment.config
        self._starting = starting
        self._stopping = Outlet()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._life = Life() if assignment.plan else lifecycle.ADOPTED
        self._done = False
        self._exited = asyncio.Event()
        self._qemu: asyncio.subprocess.Process | None = None
        self._client: QMPClient | None = None
        self._master: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._ending = shutdown.Ending.POWERED_DOWN
        self._error: MachineError | None = None
        target = SshTarget(
            alias=host_key_alias(self._config.name),
            port=self._config.ssh_port,
            username=ROOT,
            identity=self._paths.identity,
            known_hosts=self._paths.known_hosts,
        )
        sockets = {
            self._paths.podman_socket: self._config.user_socket,
            self._paths.podman_root_socket: self._config.root_socket,
        }
        self._ssh = Master(target, self._paths.ssh_control, sockets)
        drivers = Drivers(
            monitor=lambda line: monitor.human(self._client, line),
            netdev=network.NETDEV,
            ssh=lambda verb, *ends: control_argv(target, self._paths.ssh_control, verb, *ends),
        )
        self._ports = Forwarding(
            drivers,
            self._paths.ports_table,
            assignment.tcp_driver,
            on_failure=lambda reason: self._post(lifecycle.ForwardsFailed(reason=reason)),
        )
        self._port_api = PortServer(self._ports)
        self._folders = Folders(
            assignment.carried,
            Surroundings(
                ssh=lambda command: command_argv(target, self._paths.ssh_control, command),
                uid=self._config.uid,
                choice=TransportChoice(self._config.volume_driver),
                inotify=self._config.mount_inotify,
                table=self._paths.folders_table,
                log_file=self._paths.folders_log,
                time_scale=assignment.accelerator.time_scale,
            ),
            changed=lambda problem: self._post(lifecycle.FoldersChanged(problem=problem)),
            learned=self._remember_transports,
        )
        self._control = ControlServer(
            state=lambda: self._life.state,
            on_stop=self._request_stop,
            on_port=self._change_ports,
            on_mount=self._change_folders,
            stopping=self._stopping,
        )
        self._servers: list[asyncio.Server] = []

    async def run(self) -> MachineError | None:
        """Supervise until QEMU has ended; returns why a start failed."""
        await self._serve()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._request_stop, False)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                background = await self._begin()
                while not self._done:
                    self._handle(await self._events.get())
                for task in (*background, self._master, self._probe):
                    if task:
                        task.cancel()
        except BaseException:
            # A defect of ours must not cost anybody a guest that has been up, nor leave one that has not.
            if not self._life.announced:
                self._kill()
            raise
        finally:
            for server in self._servers:
                server.close()
        await self._folders.end()
        self._tell_the_end()
        await self._control.flush()
        self._remove_sockets()
        return self._error

    async def _serve(self) -> None:
        """Listen where commands and the guest's Podman look for us, in place of anything that listened there."""
        for server in self._servers:
            server.close()
        self._servers = [
            await self._control.serve(self._paths.control_socket),
            await self._port_api.serve(self._paths.ports_socket),
        ]

    # Beginning

    async def _begin(self) -> list[asyncio.Task[None]]:
        self._set_deadline(self._life.phase)
        background = [self._monitor(), self._watch_sockets(), self._ports.keep_trying()]
        if self._assignment.plan:
            self._ports.preload(self._config.forwards)
            await self._folders.start_daemons(self._assignment.lock)
            await self._spawn(self._assignment.plan)
            background += [self._watch_process(), self._watch_evidence()]
        else:
            self._ports.take_over()
            self._ports.preload(self._config.forwards)
            background.append(self._watch_adopted())
            self._perform(lifecycle.Connect(after_s=0))
        return [self._tasks.create_task(work) for work in background]

    async def _spawn(self, plan: LaunchPlan) -> None:
        self._starting.step(f"Booting the guest{'' if self._config.provisioned else _first_time(self._config)}")
        log.debug("run: %s", shlex.join(plan.argv))
        descriptor = self._assignment.lock
        with self._paths.qemu_log.open("wb") as output:
            self._qemu = await asyncio.create_subprocess_exec(
                *plan.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=() if descriptor is None else (descriptor,),
            )
        if descriptor is not None:
            lock.tell_holder(descriptor, self._qemu.pid)

    async def _change_ports(self, command: Command, value: str) -> dict[str, Any]:
        """`machine port`, on a machine that runs; what it grants is in the record from then on.

        Raises:
            MachineError: the host cannot listen there.
        """
        match command:
            case Command.PORT_ADD:
                forward = parse_forward(value)
                is_new = await self._ports.add(forward)
                try:
                    await self._keep(lambda config: config.with_forward(forward))
                except MachineError:
                    if is_new:
                        await self._ports.remove(forward.endpoint, forward.origin)
                    raise
            case Command.PORT_REMOVE:
                forward = parse_forward(value)
                await self._keep(lambda config: config.without_forward(forward.endpoint))
                await self._ports.remove(forward.endpoint, forward.origin)
            case _:
                pass
        return listing.encode(self._ports.statuses(), self._api_status())

    def _api_status(self) -> PortStatus:
        if self._life.phase is Phase.UP:
            return PortStatus(state=PortState.OPEN)
        return PortStatus(state=PortState.WAITING, reason=self._life.reason or self._life.state.state)

    async def _change_folders(self, command: Command, value: str) -> dict[str, Any]:
        """`machine mount`, on a machine that runs; what it grants is in the record from then on.

        Raises:
            MachineError: the guest does not mount it.
        """
        match command:
            case Command.MOUNT_ADD:
                added = read_folder(value)
                await self._folders.add(added)
                try:
                    await self._keep(lambda config: replace(config, folders=(*config.folders, added)))
                except MachineError:
                    await self._folders.remove(added.target)
                    raise
            case Command.MOUNT_REMOVE:
                await self._folders.remove(value)
                await self._keep(
                    lambda config: replace(
                        config, folders=tuple(folder for folder in config.folders if folder.target != value)
                    )
                )
            case _:
                pass
        return {"folders": self._folders.listing()}

    async def _keep(self, edit: Callable[[MachineConfig], MachineConfig]) -> None:
        """Change the record, which another command may hold for a while.

        Raises:
            MachineError: it cannot be written.
        """
        await asyncio.to_thread(records.edit, self._paths, edit)

    # Events in

    def _post(self, event: Event) -> None:
        self._events.put_nowait(event)

    def _request_stop(self, at_once: bool) -> None:
        # The disk of a first boot that has not ended is made anew at the next start.
        disposable = not self._config.provisioned and not self._life.announced
        if disposable:
            self._stopping.notice("The first boot had not completed: the next start begins it afresh")
        self._post(lifecycle.StopRequested(at_once=at_once or disposable))

    async def _watch_process(self) -> None:
        assert self._qemu is not None
        status = await self._qemu.wait()
        self._exited.set()
        self._post(lifecycle.QemuExited(cause=_last_words(self._paths.qemu_log, status)))

    async def _watch_adopted(self) -> None:
        """QEMU is no child of ours: it has ended when it has given its lock back."""
        while lock.is_held(self._paths.lock):
            await asyncio.sleep(_LOCK_POLL_S)
        self._exited.set()
        self._post(lifecycle.QemuExited(cause=""))

    async def _watch_sockets(self) -> None:
        """A user's runtime directory goes when the last session ends, unless lingering is enabled; QEMU stays."""
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            await self._ports.check_sockets()
            sockets = [self._paths.control_socket, self._paths.ports_socket]
            if self._life.phase is Phase.UP:
                sockets += [self._paths.podman_socket, self._paths.podman_root_socket]
            if all(socket.exists() for socket in sockets):
                continue
            try:
                make_private(self._paths.runtime)
                await self._serve()
            except (MachineError, OSError) as error:  # there is no session of the user's yet
                log.debug("the sockets cannot be made anew: %s", error)
                continue
            log.warning("the sockets had been removed, and are made anew")
            self._post(lifecycle.SocketsLost())

    async def _monitor(self) -> None:
        """QMP sessions, one after the other; the second has QEMU still carry what it did."""
        while True:
            await self._attend_qemu()
            log.info("QEMU has hung up")
            self._post(lifecycle.QemuSilent())

    async def _attend_qemu(self) -> None:
        """A QMP session, from the greeting to the hang-up."""
        client = QMPClient("machine")
        listener = EventListener(_QMP_EVENTS)
        client.register_listener(listener)
        await self._greet(client)
        self._client = client
        self._post(lifecycle.QemuUp())
        self._post(lifecycle.QemuAnswered())
        await self._ports.driver_is_up(Driver.SLIRP)
        async with asyncio.TaskGroup() as session:
            reading = [
                session.create_task(self._read_events(listener)),
                session.create_task(self._read_ready_port()),
                session.create_task(self._watch_heart(client)),
            ]
            while client.runstate is Runstate.RUNNING:
                await client.runstate_changed()
            for task in reading:
                task.cancel()
        self._client = None
        with contextlib.suppress(EOFError, OSError, QMPError):
            await client.disconnect()

    async def _greet(self, client: QMPClient) -> None:
        """Connect as soon as QEMU listens; the phase's deadline and QEMU's exit bound this."""
        while True:
            if self._paths.qmp_socket.exists():
                try:
                    async with asyncio.timeout(_QMP_GREETING_S):
                        return await client.connect(os.fspath(self._paths.qmp_socket))
                except (QMPError, OSError, TimeoutError) as error:
                    log.debug("QMP: %s", error)
            await asyncio.sleep(_QMP_RETRY_S)

    async def _watch_heart(self, client: QMPClient) -> None:
        """Whether QEMU answers, whether a full disk has stopped the guest, and whether the host has slept."""
        clock = HostClock()
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            if clock.has_jumped():
                self._post(lifecycle.HostClockJumped())
            # Never cancelled: QEMU's late answer must find who waits for it.
            asking = asyncio.ensure_future(client.execute("query-status"))
            answered, _ = await asyncio.wait([asking], timeout=_HEARTBEAT_S)
            if not answered:
                self._post(lifecycle.QemuSilent())
            try:
                status = await asking
            except (QMPError, EOFError, OSError) as error:
                log.debug("QMP has no heartbeat: %s", error)
                return
            self._post(lifecycle.QemuAnswered())
            if isinstance(status, dict) and status["status"] == "io-error":
                self._post(lifecycle.Paused(reason="the host's disk is full: the guest goes on when there is space"))
                with contextlib.suppress(QMPError, EOFError, OSError):  # tried again, or QEMU has ended
                    if shutil.disk_usage(self._paths.directory).free > _FREE_BYTES:
                        await client.execute("cont")

    async def _read_events(self, listener: EventListener) -> None:
        async for event in listener:
            log.debug("QMP event: %s", event)
            match event["event"]:
                case "RESET":
                    await self._ports.guest_has_reset()
                    self._post(lifecycle.GuestReset())
                case "STOP":
                    self._post(lifecycle.Paused())
                case "RESUME":
                    self._post(lifecycle.Resumed())
                case _:
                    pass  # SHUTDOWN: QEMU's exit follows

    async def _read_ready_port(self) -> None:
        """Lines of the guest: `ready BOOT_ID` of boot2podman-ready.service, `failed CAUSE` of cloud-init-finish.sh."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._paths.ready_socket)
        except OSError as error:
            log.error("the guest cannot tell that it is ready: %s", error)
            return
        try:
            while line := await reader.readline():
                log.debug("ready port: %r", line)
                match line.decode(errors="replace").split():
                    case ["ready", boot_id]:
                        self._remember_provisioned()
                        self._post(lifecycle.GuestReady(boot_id=boot_id))
                    case ["failed", *words]:
                        self._post(lifecycle.GuestFailed(cause=" ".join(words)))
                    case words:
                        log.warning("the ready port says %s", words)
        except (OSError, ValueError) as error:
            log.debug("ready port: %s", error)
        finally:
            writer.close()

    async def _watch_evidence(self) -> None:
        """Look for what the guest says of its failure, as long as somebody waits for it."""
        loop = asyncio.get_running_loop()
        first_seen: float | None = None
        while self._life.awaited:
            await asyncio.sleep(_EVIDENCE_EVERY_S)
            failure = evidence.find_failure(self._paths.serial_log, self._paths.ignition_journal)
            if failure is None:
                continue
            first_seen = first_seen or loop.time()
            if failure.final or loop.time() - first_seen > _EVIDENCE_PATIENCE_S:
                self._post(lifecycle.GuestFailed(cause=failure.cause))
                return

    # Decisions and actions

    def _handle(self, event: Event) -> None:
        before = self._life
        self._life, actions = lifecycle.step(before, event)
        log.debug("%s: %s -> %s %s", event, before, self._life, actions)
        if self._life.phase is not before.phase:
            self._set_deadline(self._life.phase)
            if self._life.awaited and self._life.phase in (Phase.SSH, Phase.FOLDERS, Phase.API):
                self._starting.step(f"Waiting for {self._life.phase.waits_for}")
        for action in actions:
            self._perform(action)

    def _set_deadline(self, phase: Phase) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        if phase is Phase.UP:
            return
        fetches_s = 0.0 if self._config.provisioned else self._config.provisioning.fetches_s
        seconds = phase.deadline_s(self._assignment.accelerator.time_scale, fetches_s=fetches_s)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self._post, lifecycle.DeadlinePassed(phase=phase))

    def _perform(self, action: lifecycle.Action) -> None:  # noqa: C901  (a table)
        match action:
            case lifecycle.Connect(after_s=seconds):
                self._replace_master(self._run_master(seconds))
            case lifecycle.Disconnect():
                self._replace_master(None)
            case lifecycle.MountFolders():
                self._tasks.create_task(self._mount_folders())
            case lifecycle.ProbeApi(after_s=seconds):
                self._replace_probe(self._probe_api(seconds))
            case lifecycle.SetGuestClock(doubt=doubt):
                self._tasks.create_task(self._set_guest_clock(doubt=doubt))
            case lifecycle.Announce():
                self._announce()
            case lifecycle.PowerDown(at_once=at_once):
                self._stopping.step("Waiting for VM to exit...")
                self._tasks.create_task(self._shut_down(at_once))
            case lifecycle.Fail(cause=cause):
                self._error = self._failure(cause)
                self._tasks.create_task(self._clean_up())
            case lifecycle.Refuse(cause=cause):
                self._starting.error(self._failure(cause))
            case lifecycle.Finish():
                self._done = True
            case _:
                assert_never(action)

    def _announce(self) -> None:
        self._remember_provisioned()
        self._forget_identity()
        for problem in self._life.problems:
            self._starting.notice(_sentence(problem))
        if self._assignment.plan is None:
            self._tasks.create_task(self._forget_exited())
        self._starting.ok()

    def _replace_master(self, work: Coroutine[Any, Any, None] | None) -> None:
        if self._master:
            self._master.cancel()
        self._master = self._tasks.create_task(work) if work else None

    def _replace_probe(self, work: Coroutine[Any, Any, None]) -> None:
        if self._probe:
            self._probe.cancel()
        self._probe = self._tasks.create_task(work)

    async def _run_master(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            reason = await self._ssh.run(doubtful=self._life.failures > 0, on_up=self._master_is_up)
        finally:
            self._ports.driver_is_down(Driver.SSH)
        self._post(lifecycle.MasterLost(reason=reason))

    async def _master_is_up(self) -> None:
        self._post(lifecycle.MasterUp())
        await self._ports.driver_is_up(Driver.SSH)

    async def _mount_folders(self) -> None:
        # A guest that has been told something else at an earlier start has units of it.
        if not self._folders.is_empty or self._config.guest_outdated:
            try:
                await self._folders.mount()
            except OSError as error:
                self._post(lifecycle.FoldersChanged(problem=f"the host's folders cannot be mounted: {error.strerror}"))
        self._post(lifecycle.FoldersTold())

    def _remember_transports(self, can: frozenset[Transport]) -> None:
        known = tuple(transport.value for transport in Transport if transport in can)
        if known != self._config.guest_transports:
            self._config = replace(self._config, guest_transports=known)
            self._edit_record(lambda config: replace(config, guest_transports=known))

    async def _probe_api(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            async with asyncio.TaskGroup() as both:
                for socket in (self._paths.podman_socket, self._paths.podman_root_socket):
                    both.create_task(api.ping(socket, timeout_s=_PING_S))
        except* MachineError as group:
            error = group.exceptions[0]
            self._post(lifecycle.ApiFailed(reason=str(error)))
        else:
            self._post(lifecycle.ApiAnswered())

    async def _forget_exited(self) -> None:
        """What containers have published under an earlier supervisor may have ended with nobody there to hear it."""
        before = self._ports.published()
        used: set[tuple[int, str]] = set()
        for socket in (self._paths.podman_socket, self._paths.podman_root_socket):
            try:
                used |= await api.published_ports(socket, timeout_s=_PING_S)
            except MachineError as error:
                log.warning("what containers publish is not known: %s", error)
                return
        await self._ports.close_unused(before, used)

    async def _set_guest_clock(self, *, doubt: bool) -> None:
        master = self._master
        if await self._ssh.set_guest_clock(doubt=doubt):
            self._post(lifecycle.GuestClockSet())
        elif doubt and self._master is master and self._life.paused is None:
            self._post(lifecycle.MasterLost(reason="it has not outlived a pause"))

    # The end

    async def _shut_down(self, at_once: bool) -> None:
        patience = 0.0 if at_once else shutdown.patience_s(self._assignment.accelerator)
        try:
            ending = await shutdown.shut_down(self._client, ended=self._ended, kill=self._kill, patience=patience)
        except MachineError as error:  # whoever waits hears of it; we stay for as long as QEMU does
            self._stopping.error(error)
            return
        if not at_once:
            self._ending = ending

    async def _clean_up(self) -> None:
        """After a failed start: no process stays."""
        try:
            await shutdown.shut_down(self._client, ended=self._ended, kill=self._kill, patience=0)
        except MachineError as error:
            log.error("%s", error)
        self._replace_master(None)
        self._done = True
        self._post(lifecycle.StopRequested())  # wakes the loop

    async def _ended(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._exited.wait()
        return self._exited.is_set()

    def _kill(self) -> None:
        if self._qemu is None:
            lock.signal_holder(self._paths.lock, signal.SIGKILL)
        elif self._qemu.returncode is None:
            self._qemu.kill()

    def _failure(self, cause: str) -> MachineError:
        """The phase, the cause, the console's last lines and where to read more."""
        name = self._config.name
        phase = self._life.phase
        tail = evidence.console_tail(self._paths.serial_log)
        details = [*(["the console's last lines:", *(f"  {line}" for line in tail)] if tail else [])]
        return GuestError(
            f'unable to start "{name}": in phase {phase}: {cause}',
            details=[*details, f"the whole console: {self._paths.serial_log}"],
            hint=self._hint(),
        )

    def _hint(self) -> str | None:
        """Nothing but a boot tells what a local image is for, and what a clone's systemd can do."""
        if self._life.phase is Phase.SSH and self._config.identity_pending:
            return "a clone takes its new keys where its guest has systemd 256 or later"
        if (
            self._life.phase is not Phase.BOOT
            or self._config.provisioned
            or evidence.reached_kernel(self._paths.serial_log)
        ):
            return None
        return f"the guest never reached its kernel: is this image for {self._config.arch}?"

    def _tell_the_end(self) -> None:
        if self._error:
            self._starting.error(self._error)
        self._starting.error(GuestError(f'unable to start "{self._config.name}": it was stopped'))
        if self._life.announced:
            self._edit_record(lambda config: replace(config, last_up=datetime.now(UTC)))
        self._stopping.ok(ending=self._ending.value)

    def _remember_provisioned(self) -> None:
        """A first boot has completed: from now on the disk holds what somebody has made."""
        self._config = replace(self._config, provisioned=True)
        self._edit_record(lambda config: replace(config, provisioned=True, last_up=datetime.now(UTC)))

    def _forget_identity(self) -> None:
        """A clone that answers by its own host key, and to its own key alone, has been told enough."""
        if self._config.identity_pending:
            self._edit_record(lambda config: replace(config, identity_pending=False))
            self._paths.new_identity.unlink(missing_ok=True)

    def _edit_record(self, edit: Callable[[MachineConfig], MachineConfig]) -> None:
        try:
            records.edit(self._paths, edit)
        except (MachineError, OSError) as error:
            log.error("cannot note the state in the record: %s", error)

    def _remove_sockets(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody has tidied up the whole directory
            for path in self._paths.runtime.iterdir():
                path.unlink(missing_ok=True)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _first_time(config: MachineConfig) -> str:
    fetches = config.provisioning.fetches_s > 0
    return f" for the first time{', which installs Podman where it is missing' if fetches else ''}"


def _last_words(qemu_log: Path, status: int) -> str:
    """What QEMU wrote last where it failed, empty where it ended as it should."""
    if status == 0:
        return ""
    lines = qemu_log.read_text(errors="replace").strip().splitlines()
    ending = f"by signal {-status}" if status < 0 else f"with status {status}"
    return f"QEMU ended {ending}" + (f": {lines[-1]}" if lines else "")
