"""A supervisor that has taken over a guest notices what has become of the folders of another supervisor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from machine.folders.daemons import VirtiofsDaemons
from machine.folders.probe import find_virtiofsd, probe_owners, usable_command
from machine.folders.server import FolderServer
from machine.folders.settings import GuestScripts
from machine.folders.transports import MountedFolder, shares_of
from machine.folders.virtiofsd import virtiofsd_commands
from machine.model.arch import Arch
from machine.model.folders import Folder
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport
from machine.qemu import folder_devices, hotplug
from machine.qemu.boards import BOARDS
from machine.qemu.monitor import Monitor
from machine.supervisor.inherited_folders import watch_inherited_folders
from machine.supervisor.qmp import QmpLink
from machine.this_host import current_host
from tests.support.disk_images import Images
from tests.support.folder_settings import make_folder_settings
from tests.support.idle_qemu import WAIT_S, prepared, running_qemu
from tests.support.processes import processes_of
from tests.support.start import HARDWARE


def shared(directory: Path, name: str) -> MountedFolder:
    """A folder with a virtiofsd that works on this host."""
    source = directory / name
    source.mkdir()
    folder = Folder(source=str(source), target=f"/mnt/{name}")
    daemon = find_virtiofsd(current_host())
    command = (
        daemon
        if isinstance(daemon, Obstacle)
        else usable_command(virtiofsd_commands(daemon, probe_owners(1000), folder))
    )
    if isinstance(command, Obstacle):
        pytest.skip(f"no virtiofsd: {command.reason}")
    return MountedFolder(
        folder=folder, transport=Transport.VIRTIOFS, virtiofsd=command, socket=directory / f"{name}.sock"
    )


def inherited(directory: Path, folders: list[MountedFolder], problems: list[str | None]) -> FolderServer:
    """The folders as a supervisor knows them that has not started their virtiofsd."""

    async def nothing(_: object = None) -> None: ...

    settings = make_folder_settings(
        directory, ssh=lambda _: ["true"], scripts=GuestScripts(mount="", release="", sshfs="", changes="")
    )
    return FolderServer(
        [replace(each, virtiofsd=()) for each in folders],
        settings,
        on_problem=problems.append,
        on_learned=nothing,
        on_notice=lambda _: None,
        on_mounted=nothing,
    )


@contextlib.asynccontextmanager
async def watched(directory: Path, server: FolderServer, plugged: list[MountedFolder]) -> AsyncIterator[Monitor]:
    """A QEMU in which an earlier supervisor has plugged folders, and that is watched."""
    others = VirtiofsDaemons(directory / "virtiofsd.log", on_exit=lambda *_: None)
    await others.start(plugged, None)
    link = QmpLink()
    hardware = replace(HARDWARE, shared_memory=True)
    async with asyncio.timeout(WAIT_S), running_qemu(directory, hardware) as link.client:
        await hotplug.plug_in(link.session(), BOARDS[Arch.X86_64], shares_of(plugged))
        watching = asyncio.create_task(watch_inherited_folders(link, server, every_s=0.1))
        yield link.session()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    await others.end()


def test_folder_is_lost_when_its_virtiofsd_is_killed(short_path: Path, images: Images) -> None:
    prepared(short_path, images)
    kept, lost = shared(short_path, "kept"), shared(short_path, "lost")
    problems: list[str | None] = []
    server = inherited(short_path, [kept, lost], problems)

    async def run() -> None:
        async with watched(short_path, server, [kept, lost]):
            await asyncio.sleep(0.5)
            assert problems == []
            for pid in processes_of(Path(lost.folder.source)):
                psutil.Process(pid).kill()
            while not problems:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)

    asyncio.run(run())
    assert problems == [f"virtiofsd for {lost.folder.source} has ended; restart the machine to share the folder again"]


def test_folder_that_an_earlier_suspend_has_unplugged_is_told(short_path: Path, images: Images) -> None:
    prepared(short_path, images)
    kept, lost = shared(short_path, "kept"), shared(short_path, "lost")
    problems: list[str | None] = []
    server = inherited(short_path, [kept, lost], problems)

    async def run() -> None:
        async with watched(short_path, server, [kept]) as client:
            while not problems:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            assert await folder_devices.plugged_tags(client) == {kept.folder.tag}
            assert list(await folder_devices.backends(client)) == list(await folder_devices.plugged(client))

    asyncio.run(run())
    told = "a suspend that has failed took it away; restart the machine to share it again"
    assert problems == [f"/mnt/lost is not mounted: {told}"]
