"""Telling a running guest, over SSH, what has changed on the host since it was last told."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from machine import runner
from machine.errors import BadInputError, MachineError
from machine.ignition import assets
from machine.ignition.provision import docker_socket_conf, hostname
from machine.model.config import MachineConfig
from machine.model.proxies import NAMES
from machine.model.record import MachineRecord
from machine.model.units import GIB, bytes_size
from machine.ops.shared.context import Context
from machine.ops.shared.target import find_target
from machine.ops.shared.timezone import LOCAL, resolve_timezone
from machine.ops.start_host_settings import GuestFile, digest, gather, packed
from machine.report import Reporter
from machine.ssh.command import ROOT, script_argv
from machine.store import records

# Growing a partition and a file system is quick, but an emulated guest is slow.
_SCRIPT_S = 300.0

# Boot partitions and the file system's tables take less than the rest of a disk.
_MIN_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class News:
    """What the guest is to be told; None where it knows.

    `record` says that it does not know its name, its preferred socket and the size of its disk.
    """

    record: bool = False
    timezone: str | None = None
    files: tuple[GuestFile, ...] | None = None

    @property
    def any(self) -> bool:
        return self.record or self.timezone is not None or self.files is not None


def tell_guest(record: MachineRecord, context: Context, report: Reporter) -> None:
    """Tell the guest what it does not know yet, if there is anything.

    If that fails, a notice says why, the guest stays up, and the next start tries again.
    """
    config = record.config
    news = find_news(record, context, report)
    if not news.any:
        return
    report.step("Telling the guest what has changed")
    try:
        argv = script_argv(find_target(config.name, ROOT, context), ())
        said = runner.run(argv, timeout_s=_SCRIPT_S, stdin=guest_script(config, news))
        records.edit(context.roots.machine(config.name), lambda record: as_told(record, news))
    except MachineError as error:
        report.notice(f"The guest could not be told what has changed: {error.message}; the next start tries again")
        return
    if news.record and (notice := size_notice(said.stdout, config.resources.disk_gib)):
        report.notice(notice)


def find_news(record: MachineRecord, context: Context, report: Reporter) -> News:
    """Return what differs from what the guest was last told."""
    config = record.config
    timezone = config.timezone
    if config.timezone_local:
        try:
            timezone = resolve_timezone(LOCAL, context.environment)
        except BadInputError as error:
            report.notice(f"The guest keeps the time zone {timezone}: {error.message}")
    files = gather(config, context, report)
    return News(
        record=record.pending.guest_outdated,
        timezone=timezone if timezone != config.timezone else None,
        files=files if digest(files) != record.guest.followed else None,
    )


def as_told(record: MachineRecord, news: News) -> MachineRecord:
    """Return the record of a machine whose guest has been told everything."""
    config, guest = record.config, record.guest
    if news.timezone is not None:
        config = replace(config, timezone=news.timezone)
    if news.files is not None:
        guest = replace(guest, followed=digest(news.files))
    return MachineRecord(config=config, pending=replace(record.pending, guest_outdated=False), guest=guest)


def guest_script(config: MachineConfig, news: News) -> str:
    """Return a script for root's shell in the guest. Its last line of output is the size of the root file system."""
    # The shell reads the script from standard input, so no command may read from there.
    calls = []
    if news.files is not None:
        calls.append(f"follow_host {' '.join(_followed_names())} <<'END'\n{packed(news.files, config.username)}END")
    if news.record:
        calls.append(f"set_name {shlex.quote(hostname(config))} </dev/null")
        conf = docker_socket_conf(config).removesuffix("\n")
        calls += [f"set_docker_socket {shlex.quote(conf)} </dev/null", "grow_root </dev/null"]
    if news.timezone is not None:
        # Last, as it fails in a guest that does not know the time zone, and prints nothing.
        calls.append(f"set_timezone {shlex.quote(news.timezone)} </dev/null")
    return "\n".join([assets.load("files/tell-guest.sh"), *calls, ""])


def _followed_names() -> list[str]:
    return [spelled for name in NAMES for spelled in (name, name.upper())]


def size_notice(output: str, disk_gib: int) -> str | None:
    """Return a notice if the root file system, whose size is the script's last line, has not grown."""
    last = output.split()[-1:]
    size = int(last[0]) if last and last[0].isdigit() else None
    if size is None:
        return "The guest does not say how large its root file system is"
    if size < disk_gib * GIB * _MIN_SHARE:
        return f"The guest's root file system has not grown: it has {bytes_size(size)} of a disk of {disk_gib} GiB"
    return None
