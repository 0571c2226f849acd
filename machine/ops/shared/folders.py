"""Which folders of this host a machine is to have, checked before anything is made or changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from machine.errors import BadInputError, MachineError
from machine.folders.probe import find_sftp_server, find_virtiofsd, virtiofsd_remedy
from machine.model.arch import Arch
from machine.model.folders import Folder, check_target, check_targets, parse_volume
from machine.model.host import Host, HostOS
from machine.model.settings import BUILT_IN, EffectiveSetting
from machine.model.transport import Transport, TransportChoice
from machine.ops.shared.context import Context
from machine.ops.shared.defaults import naming_source_of
from machine.qemu.probe import find_qemu, folder_devices, probe_qemu


def chosen_folders(setting: EffectiveSetting, username: str, context: Context) -> tuple[Folder, ...]:
    """The folders of a new machine; of those that nobody has asked for, the ones that can be.

    Raises:
        BadInputError: one of them cannot be.
    """
    assert isinstance(setting.value, tuple)
    if setting.origin == BUILT_IN:
        return tuple(_possible(setting.value, username, context))
    with naming_source_of(setting):
        folders = read_volumes(setting.value, context)
        check_targets(folders, username)
    return folders


def _possible(texts: Sequence[str], username: str, context: Context) -> Iterable[Folder]:
    for text in texts:
        try:
            (folder,) = read_volumes([text], context)
            check_target(folder.target, username)
        except BadInputError:
            continue
        yield folder


def read_volumes(texts: Sequence[str], context: Context) -> tuple[Folder, ...]:
    """What a person wrote; empty texts are no folders.

    Raises:
        BadInputError: one of them is none, or there is no such directory here.
    """
    environment = {"HOME": os.fspath(context.home), **context.environment}
    cwd = os.fspath(Path.cwd())
    folders = tuple(parse_volume(text, environment=environment, cwd=cwd) for text in texts if text)
    for folder in folders:
        _check_source(folder)
    return folders


def _check_source(folder: Folder) -> None:
    path = Path(folder.source)
    if not os.path.lexists(path):
        raise BadInputError(f"the folder {path} does not exist on this host", hint="make it, or share another")
    if not path.is_dir():
        raise BadInputError(f"{path} is not a directory", hint="share the directory that holds it")
    if not os.access(path, os.R_OK | os.X_OK):
        raise BadInputError(f"the folder {path} may not be read")


def check_driver(choice: TransportChoice, folders: Sequence[Folder], arch: Arch, host: Host) -> None:
    """Whether this host has what was asked for to carry folders; what is chosen by itself is chosen at each start.

    Raises:
        MachineError: it has not.
    """
    if not folders or choice is TransportChoice.AUTO:
        return
    obstacle = hint = ""
    match Transport(choice.value):
        case Transport.VIRTIOFS:
            _, obstacle = find_virtiofsd(host)
            hint = virtiofsd_remedy(host) if obstacle else ""
        case Transport.SSHFS:
            obstacle = "" if find_sftp_server() else "sftp-server is not installed on this host"
        case Transport.NINEP:
            pass
    if not obstacle and choice is not TransportChoice.SSHFS:
        qemu = probe_qemu(find_qemu(arch, host))
        if Transport(choice.value) not in folder_devices(qemu, arch):
            obstacle = f"{qemu.path} has no device for it"
    if obstacle:
        raise MachineError(f"{choice} cannot be used: {obstacle}", hint=hint or "leave out --volume-driver")


def check_inotify(*, wanted: bool, host: Host) -> None:
    """Raises:
    BadInputError: this host does not tell what happens in its folders.
    """
    if wanted and host.os is not HostOS.LINUX:
        raise BadInputError("--mount-inotify needs Linux, whose kernel tells of changes", hint="leave it out")
