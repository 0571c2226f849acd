"""`machine rename`: rename a machine and everything on this host that has its name.

A machine has its new name as soon as its directory has been renamed. Before that, both names are written to the record,
so that the record is valid in a directory of either name. After that, everything else is renamed. If this command is
interrupted, the next command that uses the machine renames the rest.
"""

from __future__ import annotations

from dataclasses import replace

from machine import lock
from machine.errors import BadInputError, MachineError
from machine.files import disk_errors, fsync_directory
from machine.model.names import check_machine_name
from machine.model.record import MachineRecord
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.renaming import LOCK_S, apply_new_name
from machine.ops.shared.restoring import finish_interrupted
from machine.ops.shared.waiting import end_waiting, start_waiting
from machine.report import Reporter
from machine.store import drafts, records


def rename(old: str, new: str, context: Context, report: Reporter) -> None:
    """Give a stopped machine another name.

    Raises:
        NotFoundError: there is no machine that is called `old`.
        BadInputError: the new name is invalid or taken.
        MachineError: the machine is running.
    """
    finish_interrupted(old, context, report)
    check_machine_name(new)
    roots = context.roots
    paths, target = roots.machine(old), roots.machine(new)
    was_waiting = False
    with lock.held(paths.lock, timeout_s=LOCK_S) as free, drafts.names_lock(roots):
        if not free:
            raise MachineError(f'unable to rename "{old}": it is running', hint=f"stop it first: machine stop {old}")
        if target.directory.exists():
            raise BadInputError(f'machine "{new}" already exists')
        ClientRegistration(context).check_free(new)
        was_waiting = end_waiting(paths)
        records.edit(paths, lambda record: _renamed(record, old, new))
        with disk_errors(target.directory):
            paths.directory.rename(target.directory)
            fsync_directory(roots.machines)
        apply_new_name(old, records.load(roots, new).config, context, report)
    if was_waiting:
        start_waiting(new, context)


def _renamed(record: MachineRecord, old: str, new: str) -> MachineRecord:
    # The machines file that has made it knows it by the old name, and must not remove it.
    config = replace(record.config, name=new, machines_file=None)
    return replace(record, config=config, pending=replace(record.pending, renamed_from=old))
