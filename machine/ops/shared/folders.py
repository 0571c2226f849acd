"""Choose and check a machine's folders before anything is made or changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from machine.errors import BadInputError, MachineError, Page
from machine.files import current_directory
from machine.folders.probe import probe_transports
from machine.folders.sources import probe_sources, resolve_source
from machine.folders.transports import TransportFacts, choose_transport
from machine.model.arch import Arch
from machine.model.config import MachineConfig
from machine.model.folders import Folder, check_source, check_targets, parse_volume
from machine.model.host import Host, HostOS
from machine.model.obstacle import Obstacle
from machine.model.settings import BUILT_IN, EffectiveSetting
from machine.model.transport import Transport, TransportChoice
from machine.ops.shared.context import Context
from machine.ops.shared.defaults import naming_source_of
from machine.qemu.probe import find_qemu, folder_devices, probe_qemu

# In the guest, with the rules that signatures of images have to satisfy (containers-policy.json(5)).
_CONTAINERS = "/etc/containers"


def chosen_folders(setting: EffectiveSetting, username: str, context: Context) -> tuple[Folder, ...]:
    """Return the folders of a new machine. A built-in folder that this host or the guest does not allow is left out.

    Raises:
        BadInputError: a folder that the user has configured is invalid or cannot be shared.
    """
    assert isinstance(setting.value, tuple)
    if setting.origin == BUILT_IN:
        return tuple(_possible(setting.value, username, context))
    with naming_source_of(setting):
        return read_volumes(setting.value, username, context)


def _possible(texts: Sequence[str], username: str, context: Context) -> Iterable[Folder]:
    for text in texts:
        try:
            (folder,) = read_volumes([text], username, context)
        except BadInputError:
            continue
        yield folder


def read_volumes(texts: Sequence[str], username: str, context: Context) -> tuple[Folder, ...]:
    """Parse the user's folders, check their targets in the guest, and then check their sources on the host.

    Empty texts are left out. `username` is the guest's user, whose own directories cannot be targets. Symbolic links in
    the sources are followed now and not at each start, because a guest may be able to change such links later.

    Raises:
        BadInputError: a folder is invalid, or the folder's source on this host cannot be shared.
    """
    environment = {"HOME": os.fspath(context.home), **context.environment}
    cwd = current_directory()
    folders = tuple(parse_volume(text, environment=environment, cwd=cwd) for text in texts if text)
    check_targets(folders, username)
    return tuple(_resolved(folder) for folder in folders)


def _resolved(folder: Folder) -> Folder:
    source = resolve_source(folder.source)
    if isinstance(source, Obstacle):
        raise BadInputError(source.reason, hint=source.remedy, page=Page.FOLDER)
    check_source(source.path, folder.source)
    return replace(folder, source=source.path)


def hidden_policy(folders: Iterable[Folder]) -> str | None:
    """Return a notice if one of the folders is mounted over the guest's policy.json."""
    for folder in folders:
        if folder.target == _CONTAINERS:
            return (
                f"{folder.source} hides the guest's directory {_CONTAINERS}. Its own policy.json then decides which "
                "images the guest's Podman accepts, and Podman before version 6 needs one"
            )
    return None


def check_transport(
    choice: TransportChoice, folders: Sequence[Folder], arch: Arch, host: Host, *, guest_uid: int
) -> None:
    """Check that this host can share the folders by the chosen transport.

    The choice `auto` is not checked, because each start then picks a transport that works.

    Raises:
        MachineError: this host cannot share the folders by this transport.
    """
    if not folders or choice is TransportChoice.AUTO:
        return
    facts = probe_transports(choice, probe_sources(folders), guest_uid=guest_uid, host=host)
    _check_choice(choice, facts, folders)
    if Transport(choice.value).is_device:
        # Ask QEMU last, because it may not be installed yet.
        _check_choice(choice, facts.with_devices(folder_devices(probe_qemu(find_qemu(arch, host)), arch)), folders)


def _check_choice(choice: TransportChoice, facts: TransportFacts, folders: Sequence[Folder]) -> None:
    for folder in folders:
        chosen = choose_transport(choice, facts, folder)
        if isinstance(chosen, Obstacle):
            remedy = chosen.remedy or "leave out --volume-driver"
            raise MachineError(chosen.reason, hint=remedy, page=Page.FOLDER)


def check_inotify(*, wanted: bool, host: Host) -> None:
    """If `--mount-inotify` is `wanted`, check that the host has inotify.

    Raises:
        BadInputError: the host has no inotify.
    """
    if wanted and host.os is not HostOS.LINUX:
        raise BadInputError("--mount-inotify works only on Linux hosts", hint="leave out --mount-inotify")


def check_mountable(config: MachineConfig) -> None:
    """Check that the guest can be made to mount folders, which takes root.

    Raises:
        BadInputError: nobody can become root on the remote host.
    """
    if not config.has_root_socket:
        raise BadInputError(
            f'folders need root, and {config.username} cannot become root on the host of "{config.name}"'
        )
