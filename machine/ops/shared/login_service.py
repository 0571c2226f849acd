"""Install and remove the user's services that start machines at login: systemd units or launchd agents."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors, make_directory, write_atomic
from machine.model.host import HostOS
from machine.model.mac_privacy import service_notices
from machine.model.record import MachineRecord
from machine.model.service import (
    Service,
    agent_program,
    launch_agent,
    service_environment,
    systemd_unit,
    unit_program,
)
from machine.ops.shared.context import Context
from machine.ops.shared.patience import stop_patience
from machine.ops.shared.shutdown import stop_s
from machine.report import Reporter
from machine.store.paths import config_home
from machine.this_host import lasting_path, lingers

_PROGRAM_S = 20.0
_ON_DEMAND = "--on-demand"


def current_program() -> Path:
    """Return the path by which this program was called. This path stays valid when the program is upgraded."""
    return lasting_path(Path(sys.argv[0]).absolute())


def install(name: str, program: Path, context: Context, report: Reporter, *, on_demand: bool = False) -> Path:
    """Install a service that starts the machine at every login by running `program`. Return the service's file.

    With `on_demand`, the service only waits for the first client, and then starts the machine.

    Raises:
        MachineError: this host has no systemd, or the file cannot be written.
    """
    service = _service(name, program, context, on_demand=on_demand)
    path = service_file(name, context)
    match context.host.os:
        case HostOS.LINUX:
            if shutil.which("systemctl") is None:
                raise MachineError(
                    "this host has no systemd to start the machine",
                    hint=f"run this at login by other means: machine {shlex.join(_words(name, on_demand=on_demand))}",
                )
            _write(path, systemd_unit(service))
            link = _wants(path)
            with disk_errors(link):
                make_directory(link.parent)
                link.unlink(missing_ok=True)
                link.symlink_to(path)
            if not _reload():
                report.notice("No user systemd is running; the service takes effect at your next login")
            if not lingers(context.user):
                report.notice(f"To start {name} when the host boots, even without a login, run: loginctl enable-linger")
        case HostOS.MACOS:
            _write(path, launch_agent(service))
            # If a service was disabled by hand, launchd remembers that.
            runner.run(["launchctl", "enable", f"gui/{context.uid}/{service.label}"], timeout_s=_PROGRAM_S, check=False)
    return path


def remove(name: str, context: Context) -> bool:
    """Remove a machine's service, and return whether there was one. The machine itself may no longer exist."""
    path = service_file(name, context)
    is_linux = context.host.os is HostOS.LINUX
    files = [path, *([_wants(path)] if is_linux else [])]
    # The user may have removed only one of the two by hand.
    if not any(os.path.lexists(file) for file in files):
        return False
    with disk_errors(path):
        for file in files:
            file.unlink(missing_ok=True)
    if is_linux:
        _reload()
    return True


def rename(old: str, new: str, context: Context, report: Reporter) -> None:
    """If a renamed machine has a service, rename the service, too. A second call changes nothing."""
    path = service_file(old, context)
    if path.exists():
        on_demand = _ON_DEMAND.encode() in path.read_bytes()
        install(new, current_program(), context, report, on_demand=on_demand)
        remove(old, context)


def installed(context: Context) -> dict[str, str | None]:
    """Map each machine that has a service to the program that the service runs, or to None if it names no program.

    Raises:
        OSError: a service's file cannot be read.
    """
    found: dict[str, str | None] = {}
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


def permissions(record: MachineRecord, context: Context) -> list[str]:
    """Return which permissions of macOS a machine's service needs. Whether it has them cannot be found out."""
    sources = [folder.source for folder in record.config.folders]
    return service_notices(context.host, sources, context.home, Path(sys.executable).resolve())


def _label(name: str) -> str:
    return f"org.boot2podman.{name}"


def _wants(unit: Path) -> Path:
    """Return the path of the symbolic link that `systemctl enable` makes for a unit.

    We make this link ourselves, because systemctl works only while the user's systemd is running.
    """
    return unit.parent / "default.target.wants" / unit.name


def _service(name: str, program: Path, context: Context, *, on_demand: bool) -> Service:
    return Service(
        label=_label(name),
        description=f"Machine {name} of boot2podman",
        argv=(os.fspath(program), *_words(name, on_demand=on_demand, quiet=True)),
        environment=service_environment(context.environment, context.host.os.traits.service_path, Path.cwd()),
        stop_s=int(stop_s(stop_patience(context))),
        log=os.fspath(context.roots.machine(name).service_log),
    )


def _words(name: str, *, on_demand: bool, quiet: bool = False) -> list[str]:
    """Return the arguments by which a service runs this program."""
    return ["start", "--foreground", *([_ON_DEMAND] if on_demand else []), *(["--no-info"] if quiet else []), name]


def _write(path: Path, content: str | bytes) -> None:
    with disk_errors(path):
        make_directory(path.parent)
    write_atomic(path, content, mode=FILE_PRIVATE)  # proxy variables may contain passwords


def _reload() -> bool:
    """Make the user's systemd read its units again, and return whether it is running."""
    with contextlib.suppress(MachineError):
        done = runner.run(["systemctl", "--user", "daemon-reload"], timeout_s=_PROGRAM_S, check=False)
        return done.returncode == 0
    return False
