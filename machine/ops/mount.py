"""`machine mount`: the folders of this host that a machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from machine import lock
from machine.control import Command
from machine.errors import BadInputError, NotFoundError
from machine.model.config import MachineConfig
from machine.model.folders import Folder, check_targets, normal, read_folder
from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.folders import read_volumes
from machine.ops.shared.state import machine_state
from machine.ops.shared.supervisor import ask_supervisor
from machine.store import records
from machine.store.paths import MachinePaths

# An emulated guest takes its time.
_ANSWER_S = 600.0
# Outlasts other commands that change the machine.
_LOCK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class ListedFolder:
    """`driver` is what carries it, empty where the machine is stopped; `problem` is why it is not in the guest."""

    source: str
    target: str
    mode: str
    driver: str
    problem: str


def add_mount(name: str, text: str, context: Context) -> None:
    """Give the machine a folder for good; at once, where it runs.

    Raises:
        BadInputError: it cannot be meant, or collides with one that the machine has.
        MachineError: the guest does not mount it.
    """
    config, paths = _load(name, context)
    if not text:
        raise BadInputError("there is no folder in an empty text", hint="write SRC[:DST[:ro]]")
    (folder,) = read_volumes([text], context)
    check_targets((*config.folders, folder), config.username)

    def offline(config: MachineConfig) -> MachineConfig:
        check_targets((*config.folders, folder), config.username)
        return replace(config, folders=(*config.folders, folder), guest_outdated=True)

    _change(name, Command.MOUNT_ADD, str(folder), paths, offline)


def remove_mount(name: str, target: str, context: Context) -> None:
    """Take a folder away, by its place in the guest.

    Raises:
        NotFoundError: the machine has none there.
        MachineError: the supervisor does not answer.
    """
    config, paths = _load(name, context)
    place = normal(target)
    if all(folder.target != place for folder in config.folders):
        raise NotFoundError(f"{name} has no folder at {place}", hint=f"see: machine mount ls {name}")

    def offline(config: MachineConfig) -> MachineConfig:
        others = tuple(folder for folder in config.folders if folder.target != place)
        return replace(config, folders=others, guest_outdated=True)

    _change(name, Command.MOUNT_REMOVE, place, paths, offline)


def list_mounts(name: str, context: Context) -> list[ListedFolder]:
    """Raises:
    NotFoundError: there is no such machine.
    """
    config, paths = _load(name, context)
    if machine_state(paths).state is not State.STOPPED:
        answer = ask_supervisor(name, Command.MOUNT_LIST, "", paths, timeout_s=_ANSWER_S)["folders"]
        return [_listed(read_folder(text), driver, problem) for text, driver, problem in answer]
    return [_listed(folder) for folder in config.folders]


def _listed(folder: Folder, driver: str = "", problem: str = "") -> ListedFolder:
    mode = "ro" if folder.read_only else "rw"
    return ListedFolder(source=folder.source, target=folder.target, mode=mode, driver=driver, problem=problem)


def _load(name: str, context: Context) -> tuple[MachineConfig, MachinePaths]:
    return records.load(context.roots, name), context.roots.machine(name)


def _change(
    name: str,
    command: Command,
    value: str,
    paths: MachinePaths,
    offline: Callable[[MachineConfig], MachineConfig],
) -> None:
    """By the supervisor where there is one, else in the record."""
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if free:
            records.edit(paths, offline)
            return
    ask_supervisor(name, command, value, paths, timeout_s=_ANSWER_S)
