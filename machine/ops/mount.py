"""`machine mount`: list and change the folders that this host shares with a machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from machine.control import Command
from machine.errors import BadInputError, NotFoundError
from machine.model.config import MachineConfig
from machine.model.folders import SYNTAX, Folder, normalized, read_folder
from machine.model.record import MachineRecord
from machine.ops.shared.ask_supervisor import ask_supervisor
from machine.ops.shared.context import Context
from machine.ops.shared.first_boot_arguments import update_first_boot
from machine.ops.shared.folders import check_mountable, hidden_policy, read_volumes
from machine.ops.shared.live_change import change_machine
from machine.ops.shared.state import machine_state
from machine.ops.wake import wake
from machine.report import Reporter
from machine.store import records

# An emulated guest is slow to mount.
_ANSWER_S = 600.0


@dataclass(frozen=True, kw_only=True)
class ListedFolder:
    """A folder as `machine mount ls` shows it to the user."""

    source: str
    target: str
    mode: str
    """`ro` or `rw`."""

    driver: str | None
    """The transport of the folder. None if the machine is stopped, or if no transport works for this folder."""

    problem: str | None
    """Why the guest of a running machine has not mounted the folder."""


def add_mount(name: str, text: str, context: Context, report: Reporter) -> None:
    """Share a folder of this host with the machine. A running guest mounts the folder at once.

    A suspended machine is resumed.

    Raises:
        BadInputError: `text` is not a valid folder, or the folder's target overlaps another folder of the machine.
        MachineError: the guest cannot mount the folder, or the machine cannot be resumed.
    """
    config = records.load(context.roots, name).config
    if not text:
        raise BadInputError("the folder must not be empty", hint=f"write {SYNTAX}")
    (folder,) = read_volumes([text], config.username, context)
    check_mountable(config)
    config.with_folder(folder)  # raises now what a supervisor would raise later

    wake(name, context, report)

    def offline(record: MachineRecord) -> MachineRecord:
        return _changed(record, record.config.with_folder(folder), context)

    change_machine(name, context, Command.MOUNT_ADD, str(folder), offline, timeout_s=_ANSWER_S)
    if notice := hidden_policy([folder]):
        report.notice(notice)


def remove_mount(name: str, target: str, context: Context, report: Reporter) -> None:
    """Stop sharing the folder whose mount point in the guest is `target`. A suspended machine is resumed.

    Raises:
        NotFoundError: the machine has no folder with that mount point.
        MachineError: the supervisor does not answer, or the machine cannot be resumed.
    """
    config = records.load(context.roots, name).config
    place = normalized(target)
    if all(folder.target != place for folder in config.folders):
        raise NotFoundError(f"{name} has no folder at {place}", hint=f"see: machine mount ls {name}")
    wake(name, context, report)

    def offline(record: MachineRecord) -> MachineRecord:
        return _changed(record, record.config.without_folder(place), context)

    change_machine(name, context, Command.MOUNT_REMOVE, place, offline, timeout_s=_ANSWER_S)


def _changed(record: MachineRecord, config: MachineConfig, context: Context) -> MachineRecord:
    update_first_boot(record, config, context.roots.machine(config.name))
    return replace(record, config=config, pending=replace(record.pending, guest_outdated=True))


def list_mounts(name: str, context: Context) -> list[ListedFolder]:
    """List the folders of a machine. If the machine is running, the list also has each folder's transport.

    Raises:
        NotFoundError: there is no such machine.
    """
    config, paths = records.load(context.roots, name).config, context.roots.machine(name)
    if machine_state(paths).state.has_processes:
        answer = ask_supervisor(name, Command.MOUNT_LIST, "", paths, timeout_s=_ANSWER_S)["folders"]
        return [_listed(read_folder(text), driver or None, problem or None) for text, driver, problem in answer]
    return [_listed(folder) for folder in config.folders]


def _listed(folder: Folder, driver: str | None = None, problem: str | None = None) -> ListedFolder:
    mode = "ro" if folder.read_only else "rw"
    return ListedFolder(source=folder.source, target=folder.target, mode=mode, driver=driver, problem=problem)
