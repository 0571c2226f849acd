"""What the background process of one machine does, from its arguments to its exit status."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
from pathlib import Path
from typing import Any

from machine import lock
from machine.errors import EXIT_ERROR, EXIT_OK, MachineError, Page, reason_of
from machine.files import disk_errors
from machine.folders.handover import load_folders
from machine.model.ports import Driver
from machine.model.settings import Settings
from machine.ports.limits import PublishLimits
from machine.resolver.choice import is_host_wanted, read_resolv_conf
from machine.ssh.leftover_masters import end_leftover_masters
from machine.store import records
from machine.store.paths import MachinePaths, Roots, find_roots, is_suspended, make_private
from machine.store.settings import load_patience, load_settings
from machine.store.suspension import load_hardware
from machine.supervisor import launch, reach
from machine.supervisor.assembly import assemble
from machine.supervisor.assignment import Assignment
from machine.supervisor.doors import ssh_place
from machine.supervisor.handover import Handover
from machine.supervisor.helpers import install_helpers
from machine.supervisor.kept_doors import KeptDoors
from machine.supervisor.log import log_to
from machine.supervisor.preload import preload
from machine.supervisor.progress import ProgressBroadcaster, ReportPipe
from machine.supervisor.waiting import become_waiting
from machine.this_host import current_host

log = logging.getLogger(__name__)

# `machine ls` takes the locks for a moment, to see whether they are held.
_LOCK_PATIENCE_S = 1.0
# The first that the kernel grants. The last is OPEN_MAX of macOS.
_OPEN_FILES = (65536, 24576, 10240)


def main() -> int:
    parser = argparse.ArgumentParser(prog="machine.supervisor")
    parser.add_argument("name")
    parser.add_argument(
        "--report-fd", type=int, help="the descriptor on which `machine start` reads progress and the result"
    )
    parser.add_argument("--adopt", action="store_true", help="take over a QEMU whose supervisor has ended")
    arguments = parser.parse_args()
    host = current_host()
    roots = find_roots(os.environ, host.os, os.getuid())
    paths = roots.machine(arguments.name)
    os.chdir("/")  # the caller's directory may be unmounted or removed while the machine runs
    starting = ProgressBroadcaster()
    if arguments.report_fd is not None:
        os.set_inheritable(arguments.report_fd, False)
        starting.add_pipe(ReportPipe(arguments.report_fd))
    log_to(paths)
    _allow_open_files()
    preload()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        descriptor = _take_locks(paths, arguments.name, adopt=arguments.adopt)
        handover = Handover() if descriptor is None else Handover.begin(paths)
        assignment = _prepare(roots, arguments.name, descriptor, starting, handover)
        kept = KeptDoors(handover)
        error = asyncio.run(_supervise(assignment, starting, handover, kept))
    except MachineError as failure:
        starting.error(failure)
        return EXIT_ERROR
    except OSError as failure:
        log.exception("unexpected error")
        place = f"{failure.filename}: " if failure.filename else ""
        starting.error(
            MachineError(
                f'unable to start "{arguments.name}": {place}{reason_of(failure)}',
                hint=f"see {paths.supervisor_log}",
                page=Page.STARTS,
            )
        )
        return EXIT_ERROR
    except BaseException:
        log.exception("internal error")
        starting.error(MachineError("internal error of the supervisor", hint=f"see {paths.supervisor_log}"))
        raise
    if error:
        return EXIT_ERROR
    if is_suspended(paths):
        become_waiting(arguments.name, paths, kept)
    return EXIT_OK


def log_unawaited(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that no task awaits any more.

    When QEMU ends while a task of the client for QMP is being cancelled, the client leaves an EOFError behind. That is
    how each machine ends, so no traceback is logged.
    """
    if isinstance(context.get("exception"), EOFError):
        log.info("QEMU has closed a connection")
    else:
        loop.default_exception_handler(context)


async def _supervise(
    assignment: Assignment, starting: ProgressBroadcaster, handover: Handover, kept: KeptDoors
) -> MachineError | None:
    asyncio.get_running_loop().set_exception_handler(log_unawaited)
    return await assemble(assignment, starting, handover=handover, kept=kept).run()


def _take_locks(paths: MachinePaths, name: str, *, adopt: bool) -> int | None:
    """Take the supervisor's lock and the machine's. Return the descriptor of the latter.

    With `adopt`, a QEMU that is running already holds the machine's lock. Return None.

    Raises:
        MachineError: the machine is already running.
    """
    _acquire(paths.supervisor_lock, name)
    return None if adopt else _acquire(paths.lock, name)


def _prepare(
    roots: Roots, name: str, descriptor: int | None, starting: ProgressBroadcaster, handover: Handover
) -> Assignment:
    """Prepare the start, and return what this supervisor is to do (its Assignment).

    `descriptor` is that of the machine's lock. If it is None, nothing is started, and the supervisor is to take over a
    QEMU that is running already.

    Raises:
        MachineError: a program or file that the start needs is missing.
    """
    paths = roots.machine(name)
    make_private(paths.runtime)
    install_helpers(paths)
    if descriptor is None:
        return _adopt(roots, name)
    host = current_host()
    settings = load_settings(roots, host)
    record = records.load(roots, name)
    for leftover in paths.runtime.iterdir():  # sockets of a supervisor that was killed
        if not handover.uses(leftover):
            leftover.unlink(missing_ok=True)
    patience = load_patience(roots, host, os.environ)
    if record.config.remote:
        end_leftover_masters(paths.ssh_control)
        return Assignment(
            record=record,
            paths=paths,
            plan=None,
            lock=descriptor,
            tcp_driver=Driver.SSH,
            publish_limits=_publish_limits(settings),
            patience=patience,
            folders=reach.prepare(record, paths),
        )
    launched = launch.prepare(
        roots,
        name,
        host,
        environment=os.environ,
        patience=patience,
        notice=starting.notice,
        owns_port=lambda port: handover.holds(ssh_place(port)),
    )
    return Assignment(
        record=launched.record,
        paths=paths,
        plan=launched.plan,
        lock=descriptor,
        tcp_driver=settings.port_driver,
        publish_limits=_publish_limits(settings),
        host_resolver=is_host_wanted(settings.host_resolver, read_resolv_conf()),
        patience=patience,
        folders=launched.folders,
        base=launched.base,
        hardware=launched.hardware,
        hypervisor=launched.hypervisor,
    )


def _acquire(path: Path, name: str) -> int:
    """Take the lock file at `path` for the life of this process, and write our process ID into the file.

    Raises:
        MachineError: another process holds the lock.
    """
    descriptor = lock.acquire(path, timeout_s=_LOCK_PATIENCE_S)
    if descriptor is None:
        raise MachineError(f'unable to start "{name}": already running')
    with disk_errors(path):
        lock.write_holder(descriptor, os.getpid())
    lock.keep(path)
    return descriptor


def _adopt(roots: Roots, name: str) -> Assignment:
    """Return what this supervisor is to do (its Assignment) when QEMU has outlived an earlier supervisor."""
    paths = roots.machine(name)
    end_leftover_masters(paths.ssh_control)
    settings = load_settings(roots, current_host())
    return Assignment(
        record=records.load(roots, name),
        paths=paths,
        plan=None,
        lock=None,
        tcp_driver=settings.port_driver,
        publish_limits=_publish_limits(settings),
        host_resolver=is_host_wanted(settings.host_resolver, read_resolv_conf()),
        patience=load_patience(roots, current_host(), os.environ),
        folders=load_folders(paths.folders_table),
        hardware=load_hardware(paths.hardware),
    )


def _allow_open_files() -> None:
    """Raise the limit for open files. QEMU inherits the limit, and needs a file for each port and connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for files in _OPEN_FILES:
        wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        with contextlib.suppress(OSError, ValueError):  # macOS refuses what is above another limit of the kernel's
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def _publish_limits(settings: Settings) -> PublishLimits:
    return PublishLimits(
        allow_wildcard=settings.allow_wildcard,
        # The operating system refuses them to anybody else.
        allow_privileged=settings.allow_privileged_ports or os.geteuid() != 0,
        max_ports=settings.max_published_ports,
    )
