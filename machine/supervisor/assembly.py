"""Make a supervisor and all the objects that it consists of from an `Assignment`, which holds only values."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import assert_never

from machine.folders.server import FolderServer
from machine.folders.settings import FolderSettings, GuestScripts
from machine.ignition import assets
from machine.lock import holder_pid
from machine.model import network
from machine.model.idle import parse_idle_suspend
from machine.model.ports import Driver, SocketPath
from machine.podman.api import container_ports
from machine.ports.drivers import Drivers
from machine.ports.forwarding import Forwarding
from machine.ports.published import PublishedPorts
from machine.ports.server import PortServer
from machine.providers.computer import Computer
from machine.providers.login import root_command, supervisors_login
from machine.providers.qemu import AdoptedQemu, ChildQemu
from machine.providers.remote import RemoteComputer
from machine.sockets import listener_pid, new_path
from machine.ssh.command import SshTarget, control_argv
from machine.store.paths import MachinePaths
from machine.supervisor.assignment import Assignment
from machine.supervisor.base_check import BaseCheck
from machine.supervisor.commands import Commands
from machine.supervisor.console_watch import ConsoleWatch, KernelWatch
from machine.supervisor.containers import ContainerWait
from machine.supervisor.control_server import ControlServer
from machine.supervisor.doors import Place, places, ssh_binding, ssh_place
from machine.supervisor.events import FoldersChanged, ForwardsChanged
from machine.supervisor.evidence import FailureWatch
from machine.supervisor.guest_check import CheckSettings, GuestCheck
from machine.supervisor.guest_names import GuestNames
from machine.supervisor.guest_sockets import GuestSockets, sockets_script
from machine.supervisor.guest_ssh import GuestSsh
from machine.supervisor.handover import Handover
from machine.supervisor.helpers import helper_command
from machine.supervisor.idle_watch import GuestActivity, IdleWatch
from machine.supervisor.intervals import USUAL, Intervals
from machine.supervisor.kept_doors import KeptDoors
from machine.supervisor.life import ADOPTED, Life
from machine.supervisor.loop import Supervisor
from machine.supervisor.master import Master
from machine.supervisor.phases import Phase
from machine.supervisor.progress import ProgressBroadcaster
from machine.supervisor.qmp import QmpLink, QmpSessions
from machine.supervisor.record import RecordKeeper
from machine.supervisor.remote_watch import watching_remote
from machine.supervisor.servers import Servers
from machine.supervisor.suspend import Suspender, SuspendSettings
from machine.supervisor.tasks import Tasks
from machine.supervisor.tracker import LifeTracker
from machine.supervisor.watches import GuestWatches
from machine.this_host import current_host

GuestCommand = Callable[[str], list[str]]
"""Returns the command line that runs a command as root in the guest, over the SSH master."""

# How long a start waits for the containers that start with the guest.
_CONTAINERS_S = 10

_LIST_S = 60.0


def assemble(
    assignment: Assignment,
    starting: ProgressBroadcaster,
    intervals: Intervals = USUAL,
    handover: Handover | None = None,
    kept: KeptDoors | None = None,
) -> Supervisor:
    """Make the supervisor of a machine. `starting` reports the progress of the start to `machine start`."""
    handover = handover or Handover()
    kept = kept or KeptDoors(handover)
    paths = assignment.paths
    target = supervisors_login(assignment.record.config, paths)
    in_guest = partial(root_command, assignment.record.config, target, paths.ssh_control)
    life = LifeTracker(_first_life(assignment))
    tasks = Tasks(life)
    record = RecordKeeper(paths, assignment.record)
    stopping = ProgressBroadcaster()
    link = QmpLink()
    ports = _make_forwarding(assignment, target, link, life, kept)
    lists = [partial(container_ports, path, timeout_s=_LIST_S) for path in assignment.api_sockets]
    published = PublishedPorts(ports, lists)
    sockets = _make_guest_sockets(assignment, in_guest, starting)
    folders = _make_folder_server(assignment, in_guest, life, record, sockets, starting)
    connection = GuestSsh(
        Master(
            assignment.record.config.name,
            target,
            paths.ssh_control,
            sockets.on_host,
            patience=assignment.patience,
            sets_clock=assignment.record.config.remote is None,
        ),
        tasks=tasks,
        life=life,
        record=record,
        ports=ports,
        folders=folders,
        sockets=sockets,
    )
    commands = Commands(life=life, record=record, ports=ports, folders=folders, starting=starting, stopping=stopping)
    watches = _make_watches(assignment, life, connection, starting, intervals)
    activity = _make_activity(assignment, in_guest, ports)
    guest_check = GuestCheck(_check_settings(assignment, in_guest, intervals), life=life, record=record)
    watching: list[Callable[[], Awaitable[None]]]
    if assignment.record.config.remote:
        watching = watching_remote(assignment, life, ports, starting, intervals)
    else:
        qmp = QmpSessions(
            link, paths=paths, life=life, record=record, ports=ports, heartbeat_s=intervals.heartbeat_s,
            patience=assignment.patience,
        )  # fmt: skip
        watching = [qmp.run, watches.watch_kernel, watches.watch_evidence, guest_check.watch]
        if wish := parse_idle_suspend(assignment.record.config.idle_suspend):
            watching.append(IdleWatch(wish=wish, commands=commands, look=activity.look).watch)
        watching += [] if assignment.record.config.has_our_units else [watches.watch_greeting]
    return Supervisor(
        paths=paths,
        accelerator=assignment.accelerator,
        hypervisor=assignment.hypervisor,
        patience=assignment.patience,
        life=life,
        record=record,
        computer=_make_computer(assignment, intervals),
        link=link,
        connection=connection,
        names=_make_guest_names(assignment, in_guest, starting),
        ports=ports,
        published=published,
        folders=folders,
        commands=commands,
        watching=watching,
        servers=Servers(
            control=ControlServer(commands, stopping=stopping),
            port_server=PortServer(published),
            ports=ports,
            paths=paths,
            api_sockets=assignment.api_sockets,
            life=life,
            every_s=intervals.heartbeat_s,
        ),
        starting=starting,
        stopping=stopping,
        watches=watches,
        containers=_make_container_wait(assignment, in_guest, intervals),
        guest_check=guest_check,
        handover=handover,
        kept=kept,
        suspender=Suspender(
            _suspend_settings(assignment, record),
            link=link,
            folders=folders,
            connection=connection,
            ports=ports,
            kept=kept,
            is_in_use=lambda: activity.connections() > 0,
        ),
        heartbeat_s=intervals.heartbeat_s,
        tasks=tasks,
    )


def _make_watches(
    assignment: Assignment,
    life: LifeTracker,
    connection: GuestSsh,
    starting: ProgressBroadcaster,
    intervals: Intervals,
) -> GuestWatches:
    paths = assignment.paths
    return GuestWatches(
        life,
        failure=FailureWatch(
            paths.serial_log,
            paths.ignition_journal,
            every_s=intervals.evidence_s,
            patience_s=intervals.evidence_patience_s,
        ),
        base=BaseCheck(
            assignment.base,
            paths.serial_log,
            starting.step,
            patience_s=intervals.silent_boot_s * assignment.time_scale,
            every_s=intervals.evidence_s,
        ),
        console=ConsoleWatch(
            paths.serial_log,
            starting.notice,
            every_s=intervals.evidence_s,
            prompt_patience_s=intervals.prompt_patience_s * assignment.time_scale,
            job_patience_s=intervals.job_patience_s * assignment.time_scale,
        ),
        kernel=KernelWatch(paths.serial_log, every_s=intervals.kernel_s),
        connection=connection,
        every_s=intervals.heartbeat_s,
    )


def _make_activity(assignment: Assignment, in_guest: GuestCommand, ports: Forwarding) -> GuestActivity:
    paths, config = assignment.paths, assignment.record.config
    wish = parse_idle_suspend(config.idle_suspend)
    return GuestActivity(
        ports=ports,
        ssh_port=config.ssh_port,
        api_sockets=tuple(assignment.api_sockets),
        console_lock=paths.console_lock,
        ssh=in_guest,
        pids=lambda: [pid for driver in Driver if (pid := _driver_pid(paths, driver)) is not None],
        counts_containers=wish is not None and not wish.ignores_containers,
        time_scale=assignment.time_scale,
    )


def _suspend_settings(assignment: Assignment, record: RecordKeeper) -> SuspendSettings:
    paths = assignment.paths

    def where_clients_come() -> list[Place]:
        return places(paths, record.current.config.forwards, record.current.config.ssh_port, sleeps=True)

    return SuspendSettings(
        paths=paths,
        places=where_clients_come,
        bound={
            SocketPath(path=os.fspath(new_path(path))): SocketPath(path=os.fspath(path))
            for path in assignment.api_sockets
        },
        arch=assignment.record.config.arch,
        hardware=assignment.hardware,
        resumes=assignment.resumes,
        lock=assignment.lock,
        time_scale=assignment.time_scale,
    )


def _check_settings(assignment: Assignment, in_guest: GuestCommand, intervals: Intervals) -> CheckSettings:
    return CheckSettings(
        ssh=None if assignment.record.config.remote else in_guest,
        script=assets.load("files/examine.sh"),
        grow=assets.load("files/tell-guest.sh") + "grow_root </dev/null\n",
        time_scale=assignment.time_scale,
        every_s=intervals.guest_s,
        max_share=intervals.guest_max_share,
        start_every_s=intervals.guest_start_s,
    )


def _first_life(assignment: Assignment) -> Life:
    if assignment.record.config.remote:
        return Life(phase=Phase.SSH)
    return Life(resumes=assignment.resumes) if assignment.plan else ADOPTED


def _make_container_wait(assignment: Assignment, in_guest: GuestCommand, intervals: Intervals) -> ContainerWait:
    return ContainerWait(
        ssh=in_guest,
        machine=assignment.record.name,
        script=assets.load("files/await-containers.sh"),
        username=assignment.record.config.username,
        silent_s=intervals.silent_s,
        patience_s=_CONTAINERS_S * assignment.time_scale,
    )


def _make_computer(assignment: Assignment, intervals: Intervals) -> Computer:
    paths, plan = assignment.paths, assignment.plan
    if assignment.record.config.remote:
        return RemoteComputer()
    if plan is None:
        return AdoptedQemu(paths.lock, poll_s=intervals.lock_s)
    return ChildQemu(plan.argv, output=paths.qemu_log, lock_descriptor=assignment.lock)


def _make_forwarding(
    assignment: Assignment, target: SshTarget, link: QmpLink, life: LifeTracker, kept: KeptDoors
) -> Forwarding:
    paths = assignment.paths
    drivers = Drivers(
        monitor=link.human_command,
        netdev=network.NETDEV,
        ssh=partial(control_argv, target, paths.ssh_control),
        pid=partial(_driver_pid, paths),
        standing={
            Driver.SLIRP: [ssh_place(target.port)],
            Driver.SSH: [SocketPath(path=os.fspath(new_path(path))) for path in assignment.api_sockets],
        },
    )
    return Forwarding(
        drivers,
        paths.ports_table,
        assignment.tcp_driver,
        on_failure=lambda problem: life.post(ForwardsChanged(problem=problem)),
        limits=assignment.publish_limits,
        predecessor=kept,
        standing=None if assignment.record.config.remote else [ssh_binding(target.port)],
    )


def _driver_pid(paths: MachinePaths, driver: Driver) -> int | None:
    match driver:
        case Driver.SLIRP:
            return holder_pid(paths.lock)
        case Driver.SSH:
            return listener_pid(paths.ssh_control)
        case _:
            assert_never(driver)


def _make_guest_sockets(assignment: Assignment, in_guest: GuestCommand, starting: ProgressBroadcaster) -> GuestSockets:
    config, paths = assignment.record.config, assignment.paths
    return GuestSockets(
        ssh=in_guest,
        on_host=assignment.api_sockets,
        script=None if config.remote else sockets_script(paths, config),
        on_notice=starting.notice,
        time_scale=assignment.time_scale,
    )


def _make_guest_names(
    assignment: Assignment, in_guest: GuestCommand, starting: ProgressBroadcaster
) -> GuestNames | None:
    """Return None if neither this supervisor nor an earlier one has the guest ask this host for names."""
    server = None
    if assignment.record.config.remote:
        return None
    if assignment.host_resolver:
        from machine.resolver.lookup import HostNames  # these import dnspython, which few supervisors need
        from machine.resolver.server import ResolverServer

        server = ResolverServer(HostNames().look_up)
    elif assignment.plan:
        return None
    return GuestNames(
        ssh=in_guest,
        script=assets.load("files/host-names.sh"),
        server=server,
        on_notice=starting.notice,
        time_scale=assignment.time_scale,
    )


def _make_folder_server(
    assignment: Assignment,
    in_guest: GuestCommand,
    life: LifeTracker,
    record: RecordKeeper,
    sockets: GuestSockets,
    starting: ProgressBroadcaster,
) -> FolderServer:
    config, paths = assignment.record.config, assignment.paths
    settings = FolderSettings(
        ssh=in_guest,
        scripts=GuestScripts(
            mount=("no_units=yes\n" if config.remote else "") + assets.load("files/folders.sh"),
            release=assets.load("files/folders-release.sh"),
            sshfs=assets.load("files/folder-sshfs.sh"),
            changes=assets.load("files/folder-changes.sh"),
        ),
        confine=helper_command(paths.confine),
        guest_uid=config.uid,
        choice=config.volume_driver,
        relay_changes=config.mount_inotify,
        state_file=paths.folders_table,
        log_file=paths.folders_log,
        host_os=current_host().os,
        time_scale=assignment.time_scale,
    )
    return FolderServer(
        assignment.folders,
        settings,
        on_problem=lambda problem: life.post(FoldersChanged(problem=problem)),
        on_learned=record.note_transports,
        on_notice=starting.notice,
        on_mounted=sockets.provide,
    )
