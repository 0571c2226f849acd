"""What has changed in a record since the guest was provisioned, told to the guest over SSH once it runs."""

from __future__ import annotations

import shlex
from dataclasses import replace

from machine import runner
from machine.errors import MachineError
from machine.ignition import assets
from machine.ignition.provision import docker_socket_conf, hostname
from machine.model.config import MachineConfig
from machine.model.units import GIB, bytes_size
from machine.ops.context import Context
from machine.ops.ssh import find_target
from machine.report import Reporter
from machine.ssh.command import ROOT, session_argv
from machine.store import records

# Growing a partition and a file system is quick, an emulated guest is not.
_SCRIPT_S = 300.0

# Of a disk, boot partitions and the file system's own tables take less than the rest.
_LEAST_SHARE = 0.8


def tell_guest(config: MachineConfig, context: Context, report: Reporter) -> None:
    """Give the guest its name, its preferred socket and the whole of its disk.

    It is up and stays so: where it cannot be told, a notice says why, and the next start tries again.
    """
    report.step("Telling the guest what has changed")
    try:
        argv = session_argv(find_target(config.name, ROOT, context), guest_command(config))
        said = runner.run(argv, timeout_s=_SCRIPT_S, stdin=assets.load("files/tell-guest.sh"))
        records.edit(context.roots.machine(config.name), lambda config: replace(config, guest_outdated=False))
    except MachineError as error:
        report.notice(f"The guest could not be told what has changed: {error.message}; the next start tries again")
        return
    if notice := size_notice(said.stdout, config.resources.disk_gib):
        report.notice(notice)


def guest_command(config: MachineConfig) -> list[str]:
    """The words that run the script, which comes on standard input, in the guest's shell."""
    return ["sh", "-s", "--", *map(shlex.quote, (hostname(config), docker_socket_conf(config).rstrip("\n")))]


def size_notice(said: str, disk_gib: int) -> str:
    """What a person should know of the root file system's size, the last line of the script; empty when it is large."""
    last = said.split()[-1:]
    size = int(last[0]) if last and last[0].isdigit() else None
    if size is None:
        return "The guest does not tell how large its root file system is"
    if size < disk_gib * GIB * _LEAST_SHARE:
        return f"The guest's root file system has {bytes_size(size)} of a disk of {disk_gib} GiB: it has not grown"
    return ""
