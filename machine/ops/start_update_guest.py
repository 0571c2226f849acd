"""Bring a running guest's settings up to date after the machine's config or the host's settings have changed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace

from machine.errors import BadInputError, MachineError
from machine.ignition import assets
from machine.ignition.containers import service_files, services_digest
from machine.ignition.provision import docker_socket_conf, hostname
from machine.model.config import MachineConfig
from machine.model.proxies import NAMES
from machine.model.record import MachineRecord
from machine.model.units import GIB, bytes_size
from machine.ops.shared.context import Context
from machine.ops.shared.guest_script import run_script
from machine.ops.shared.patience import start_patience
from machine.ops.shared.timezone import LOCAL, resolve_timezone
from machine.ops.start_host_settings import GuestFile, digest, gather, packed
from machine.report import Reporter
from machine.store import records

# Growing a partition and its file system is quick, but emulated guests are slow.
_SCRIPT_S = 300.0

# A fully grown root file system has at least this share of the disk. Boot partitions and its own tables take the rest.
_MIN_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class GuestUpdate:
    """The settings that have to be changed in the guest. A setting that is already up to date is None or False."""

    record: bool = False
    """Whether to set the guest's name and preferred socket, and to grow its root file system."""

    timezone: str | None = None
    files: tuple[GuestFile, ...] | None = None

    services: bool = False
    """Whether to install the services that start containers."""

    @property
    def is_empty(self) -> bool:
        return not (self.record or self.services) and self.timezone is None and self.files is None


def update_guest(record: MachineRecord, context: Context, report: Reporter, check_up: Callable[[], None]) -> None:
    """Change those settings in the guest that have changed on the host.

    If a change fails, call `check_up`, which raises an error if the machine is no longer running. If the machine is
    still running, a notice says what failed, and the next start tries again.
    """
    config = record.config
    update = find_update(record, context, report)
    if update.is_empty:
        return
    report.step("Updating the guest's settings")
    try:
        output = run_script(
            config, guest_script(config, update), context, timeout_s=_SCRIPT_S * start_patience(context)
        )
        records.edit(context.roots.machine(config.name), lambda record: updated_record(record, update))
    except MachineError as error:
        check_up()
        report.notice(f"The guest's settings could not be updated: {error.message}; the next start tries again")
        return
    if update.record and (notice := size_notice(output, config.resources.disk_gib)):
        report.notice(notice)


def find_update(record: MachineRecord, context: Context, report: Reporter) -> GuestUpdate:
    """Return which settings have to be changed in the guest."""
    config = record.config
    timezone = config.timezone
    if config.timezone_local:
        try:
            timezone = resolve_timezone(LOCAL, context.environment)
        except BadInputError as error:
            reason = f"because this host's time zone cannot be used: {error.message}"
            report.notice(f"The guest keeps the time zone {timezone}, {reason}")
    files = gather(config, context, report)
    return GuestUpdate(
        record=record.pending.guest_outdated,
        timezone=timezone if timezone != config.timezone else None,
        files=files if digest(files) != record.guest.followed else None,
        services=config.has_our_units and record.guest.services != services_digest(),
    )


def updated_record(record: MachineRecord, update: GuestUpdate) -> MachineRecord:
    """Return the machine's record after `update` has been carried out in the guest."""
    config, guest = record.config, record.guest
    if update.timezone is not None:
        config = replace(config, timezone=update.timezone)
    if update.files is not None:
        guest = replace(guest, followed=digest(update.files))
    if update.services:
        guest = replace(guest, services=services_digest())
    pending = replace(record.pending, guest_outdated=False)
    return replace(record, config=config, pending=pending, guest=guest)


def guest_script(config: MachineConfig, update: GuestUpdate) -> str:
    """Return a script for root's shell in the guest. The script prints the size of the root file system last."""
    # The shell reads the script from standard input, so no command may read from there.
    calls = []
    if update.files is not None:
        calls.append(f"follow_host {' '.join(_proxy_variables())} <<'END'\n{packed(update.files, config.username)}END")
    if update.services:
        files = tuple(GuestFile(path=file.path[1:], content=file.contents.encode()) for file in service_files())
        calls.append(f"install_services <<'END'\n{packed(files, config.username)}END")
    if update.record:
        calls.append(f"set_name {shlex.quote(hostname(config))} </dev/null")
        conf = docker_socket_conf(config).removesuffix("\n")
        calls += [f"set_docker_socket {shlex.quote(conf)} </dev/null", "grow_root </dev/null"]
    if update.timezone is not None:
        # Last, because it fails in a guest that lacks the time zone. It prints nothing.
        calls.append(f"set_timezone {shlex.quote(update.timezone)} </dev/null")
    return "\n".join([assets.load("files/tell-guest.sh"), *calls, ""])


def _proxy_variables() -> list[str]:
    return [spelled for name in NAMES for spelled in (name, name.upper())]


def size_notice(output: str, disk_gib: int) -> str | None:
    """Return a notice if the guest's root file system has not grown, or if its size is unknown.

    `output` is the output of the script from `guest_script`. The last line is the size.
    """
    last = output.split()[-1:]
    size = int(last[0]) if last and last[0].isdigit() else None
    if size is None:
        return "The guest does not say how large its root file system is"
    if size < disk_gib * GIB * _MIN_SHARE:
        return f"The guest's root file system has not grown: it has {bytes_size(size)}, but the disk has {disk_gib} GiB"
    return None
