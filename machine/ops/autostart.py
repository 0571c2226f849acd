"""`machine autostart`: a service of the user's own that starts a machine at login.

It says nothing of now: neither does a machine that is stopped start, nor one that runs stop.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors, write_atomic
from machine.hosts import lingers
from machine.model.host import HostOS
from machine.model.service import (
    Service,
    agent_program,
    launch_agent,
    service_environment,
    systemd_unit,
    unit_program,
)
from machine.ops.shared.context import Context
from machine.ops.stop import STOP_S
from machine.report import Reporter
from machine.store import records
from machine.store.paths import config_home

_PROGRAM_S = 20.0


def current_program() -> Path:
    """The command that this process is, by the name that it was called: what an upgrade replaces keeps that."""
    return Path(sys.argv[0]).absolute()


def enable(name: str, program: Path, context: Context, report: Reporter) -> Path:
    """Have the machine start at login; returns the service's file.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: nothing on this host starts services, or the file cannot be written.
    """
    records.load(context.roots, name)
    service = _service(name, program, context)
    path = service_file(name, context)
    match context.host.os:
        case HostOS.LINUX:
            if shutil.which("systemctl") is None:
                raise MachineError(
                    "this host has no systemd, which would start the machine",
                    hint=f"have something else run at login: machine start --foreground {name}",
                )
            _write(path, systemd_unit(service))
            link = _wants(path)
            with disk_errors(link):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(path)
            _reload(report)
            if not lingers(context.user):
                report.notice("It starts when you log in; already when the host boots after: loginctl enable-linger")
        case HostOS.MACOS:
            _write(path, launch_agent(service))
            # A service that was once disabled by hand stays so until this.
            runner.run(["launchctl", "enable", f"gui/{context.uid}/{service.label}"], timeout_s=_PROGRAM_S, check=False)
    return path


def disable(name: str, context: Context, report: Reporter) -> bool:
    """Have the machine, which need not exist any more, start no longer at login; returns whether it did."""
    path = service_file(name, context)
    is_linux = context.host.os is HostOS.LINUX
    files = [path, *([_wants(path)] if is_linux else [])]
    # Who removes one of them by hand leaves the other.
    if not any(os.path.lexists(file) for file in files):
        return False
    with disk_errors(path):
        for file in files:
            file.unlink(missing_ok=True)
    if is_linux:
        _reload(report)
    return True


def rename(old: str, new: str, context: Context, report: Reporter) -> None:
    """Let the service follow a machine to its new name; can be done twice."""
    if service_file(old, context).exists():
        enable(new, current_program(), context, report)
        disable(old, context, report)


def enabled(context: Context) -> dict[str, str]:
    """The machines that start at login, each with the program that its service runs, empty where that is not told.

    Raises:
        OSError: they cannot be read.
    """
    found = {}
    pattern = service_file("*", context)
    before, after = pattern.name.split("*")
    for path in sorted(pattern.parent.glob(pattern.name)):
        name = path.name.removeprefix(before).removesuffix(after)
        match context.host.os:
            case HostOS.LINUX:
                if _wants(path).is_symlink():
                    found[name] = unit_program(path.read_text(errors="replace"))
            case HostOS.MACOS:
                found[name] = agent_program(path.read_bytes())
    return found


def service_file(name: str, context: Context) -> Path:
    match context.host.os:
        case HostOS.LINUX:
            return config_home(context.environment, context.home) / "systemd/user" / f"boot2podman-{name}.service"
        case HostOS.MACOS:
            return context.home / "Library/LaunchAgents" / f"{_label(name)}.plist"


def _label(name: str) -> str:
    return f"org.boot2podman.{name}"


def _wants(unit: Path) -> Path:
    """What `systemctl enable` makes; that wants a systemd that answers, and there may be none before a login."""
    return unit.parent / "default.target.wants" / unit.name


def _service(name: str, program: Path, context: Context) -> Service:
    return Service(
        label=_label(name),
        description=f"Machine {name} of boot2podman",
        argv=(os.fspath(program), "start", "--foreground", "--no-info", name),
        environment=service_environment(context.environment, context.host.os.traits.service_path, Path.cwd()),
        stop_s=int(STOP_S),
        log=os.fspath(context.roots.machine(name).service_log),
    )


def _write(path: Path, content: str | bytes) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content, mode=FILE_PRIVATE)  # proxies may be named with a password


def _reload(report: Reporter) -> None:
    """Tell a systemd that runs; one that starts later reads everything."""
    with contextlib.suppress(MachineError):
        done = runner.run(["systemctl", "--user", "daemon-reload"], timeout_s=_PROGRAM_S, check=False)
        if done.returncode == 0:
            return
    report.notice("No systemd of yours runs now: the next one that does will know")
