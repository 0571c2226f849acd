"""`machine rename`: another name for a machine, and for everything that is called after it.

The one step that counts is the directory's own rename. Before it, the record tells both names, so that it is the
machine's under either; after it, what else is called after the machine follows, now or at the next command.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

from machine import lock
from machine.errors import BadInputError, MachineError
from machine.files import disk_errors, fsync_directory, write_atomic
from machine.model.config import MachineConfig
from machine.model.names import check_machine_name
from machine.ops import autostart
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.report import Reporter
from machine.ssh.command import known_hosts_line
from machine.store import drafts, records
from machine.store.paths import MachinePaths

_LOCK_S = 1.0


def rename(old: str, new: str, context: Context, report: Reporter) -> None:
    """Give a stopped machine another name.

    Raises:
        NotFoundError: there is no machine of the old name.
        BadInputError: the new name cannot be, or is taken.
        MachineError: the machine runs.
    """
    finish_rename(old, context, report)
    check_machine_name(new)
    roots = context.roots
    paths, target = roots.machine(old), roots.machine(new)
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free, drafts.names_lock(roots):
        if not free:
            raise MachineError(f'unable to rename "{old}": it runs', hint=f"stop it first: machine stop {old}")
        if target.directory.exists():
            raise BadInputError(f'machine "{new}" already exists')
        ClientRegistration(context).check_free(new)
        records.edit(paths, lambda config: replace(config, name=new, renamed_from=old))
        with disk_errors(target.directory):
            paths.directory.rename(target.directory)
            fsync_directory(roots.machines)
        _follow(records.load(roots, new), context, report)


def finish_rename(name: str, context: Context, report: Reporter) -> MachineConfig:
    """The machine's record, after the rest of a rename that was cut short.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: its record is damaged, or something that is called after it cannot be changed.
    """
    config = records.load(context.roots, name)
    if config.renamed_from:
        with (
            lock.held(context.roots.machine(name).lock, timeout_s=_LOCK_S) as free,
            drafts.names_lock(context.roots),
        ):
            if free:
                report.notice(f'Finishing the rename of "{config.renamed_from}" to "{name}"')
                _follow(records.load(context.roots, name), context, report)
    return records.load(context.roots, name)


def _follow(config: MachineConfig, context: Context, report: Reporter) -> None:
    """Everything that is called after the machine; each step can be taken twice. The caller has both locks."""
    before = context.roots.machine(config.name)  # its sockets are still where the old name has put them
    paths = MachinePaths(directory=before.directory, runtime=context.roots.runtime / config.name)
    public = before.host_key.with_name(f"{before.host_key.name}.pub").read_text()
    write_atomic(paths.known_hosts, known_hosts_line(config.name, public))
    ClientRegistration(context).rename(config.renamed_from, before, config, paths)
    autostart.rename(config.renamed_from, config.name, context, report)
    if before.runtime != paths.runtime:
        shutil.rmtree(before.runtime, ignore_errors=True)
        fresh = paths.runtime_link.with_name(f".{paths.runtime_link.name}.tmp")
        with disk_errors(fresh):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(paths.runtime)
            os.replace(fresh, paths.runtime_link)
    records.edit(paths, lambda config: replace(config, renamed_from="", guest_outdated=True))
