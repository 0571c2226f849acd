"""Rename everything that belongs to a machine once its directory is renamed, and finish interrupted renames."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

from machine import lock
from machine.files import disk_errors, write_atomic
from machine.model.config import MachineConfig
from machine.model.record import MachineRecord
from machine.ops.shared import login_service
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.report import Reporter
from machine.ssh.command import known_hosts_line
from machine.store import drafts, records
from machine.store.paths import MachinePaths

LOCK_S = 1.0


def finish_rename(name: str, context: Context, report: Reporter) -> MachineRecord:
    """Return the machine's record. If a rename of the machine was interrupted, finish the rename first.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the record is damaged, or something that still has the old name cannot be renamed.
    """
    record = records.load(context.roots, name)
    if record.pending.renamed_from is None:
        return record
    with (
        lock.held(context.roots.machine(name).lock, timeout_s=LOCK_S) as free,
        drafts.names_lock(context.roots),
    ):
        record = records.load(context.roots, name)  # another command may have finished the rename by now
        old = record.pending.renamed_from
        if free and old is not None:
            report.notice(f'Finishing the rename of "{old}" to "{name}"')
            apply_new_name(old, record.config, context, report)
    return records.load(context.roots, name)


def apply_new_name(old: str, config: MachineConfig, context: Context, report: Reporter) -> None:
    """After the machine's directory has been renamed, rename everything else that still has the old name.

    If the function is interrupted, it can be called again. The caller must hold the machine's lock and the names lock.
    """
    before = context.roots.machine(config.name)  # its sockets are still where the old name put them
    paths = MachinePaths(directory=before.directory, runtime=context.roots.runtime / config.name)
    write_atomic(paths.known_hosts, _known_hosts(config, before))
    ClientRegistration(context).rename(old, before, config, paths, report)
    login_service.rename(old, config.name, context, report)
    if before.runtime != paths.runtime:
        shutil.rmtree(before.runtime, ignore_errors=True)
        fresh = paths.runtime_link.with_name(f".{paths.runtime_link.name}.tmp")
        with disk_errors(fresh):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(paths.runtime)
            os.replace(fresh, paths.runtime_link)
    records.edit(
        paths,
        lambda record: replace(
            record, pending=replace(record.pending, renamed_from=None, guest_outdated=config.remote is None)
        ),
    )


def _known_hosts(config: MachineConfig, paths: MachinePaths) -> str:
    """Return the machine's known_hosts file for its new name."""
    if config.remote is None:
        return known_hosts_line(config.name, paths.public_host_key.read_text())
    lines = paths.known_hosts.read_text().splitlines()
    return "".join(known_hosts_line(config.name, line.partition(" ")[2]) for line in lines)
