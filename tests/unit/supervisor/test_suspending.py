"""Suspends of a real supervisor, with QEMU, the guest and ssh played by the test, and clients that come meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from machine import control
from machine.control import Command
from machine.deadline import Deadline
from machine.errors import MachineError
from machine.folders.server import FolderServer
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder
from machine.model.hardware import Hardware
from machine.model.host import Accelerator
from machine.model.obstacle import Obstacle
from machine.model.record import GuestFacts
from machine.model.state import State
from machine.model.transport import Transport
from machine.ports import drivers
from machine.qemu import memory
from machine.qemu.monitor import Monitor
from machine.store.paths import is_suspended
from machine.store.suspension import load_suspension
from machine.supervisor.events import SuspendRequested
from machine.supervisor.guest_ssh import GuestSsh
from tests.support.fake_machine import WAIT_S, FakeMachine, fake_machine, until
from tests.support.fake_ssh import FakeSsh
from tests.support.hammer import connect, hammering

HARDWARE = Hardware(
    accelerator=Accelerator.TCG, cpu="max", first_boot=False, rekey=False, folder_slots=0, shared_memory=False
)
SAVED: dict[str, object] = {"status": "completed"}
FAILED: dict[str, object] = {"status": "failed", "error-desc": "no space"}
PING = b"GET /_ping HTTP/1.0\r\n\r\n"


async def fall_asleep(machine: FakeMachine) -> None:
    machine.qemu.migration = SAVED
    assert (await machine.ask(Command.SUSPEND))[-1] == {"ok": {"ending": "suspended"}}
    assert await machine.end() is None
    machine.supervisor.kept.close()


_END = GuestSsh.end


async def end_slowly(ssh: GuestSsh) -> None:
    await _END(ssh)
    await asyncio.sleep(0.2)


def refuse_duplicates(pid: int, places: object) -> NoReturn:
    raise OSError(errno.EOPNOTSUPP, "not on this host")


Story = Callable[[FakeMachine], Awaitable[None]]


def play(story: Story, directory: Path, *folders: MountedFolder, patience: int = 1) -> None:
    async def work() -> None:
        facts = GuestFacts(provisioned=True)
        async with fake_machine(
            directory, hardware=HARDWARE, guest=facts, folders=folders, patience=patience
        ) as machine:
            machine.paths.disk.touch()
            await machine.boot()
            await story(machine)

    asyncio.run(work())


def ping(path: Path) -> bytes:
    with connect(path) as client:
        client.sendall(PING)
        return client.recv(4096)


@pytest.mark.parametrize("duplicates", [True, False], ids=["duplicates", "no duplicates"])
def test_no_client_of_the_api_is_refused_while_the_machine_is_suspended(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch, *, duplicates: bool
) -> None:
    if not duplicates:  # as on a Mac
        monkeypatch.setattr(drivers, "duplicate_listeners", refuse_duplicates)
        monkeypatch.setattr(GuestSsh, "end", end_slowly)

    async def story(machine: FakeMachine) -> None:
        machine.qemu.migration = SAVED
        with hammering([machine.paths.podman_socket, machine.paths.podman_root_socket]) as attempts:
            answers = await asyncio.gather(machine.ask(Command.SUSPEND), machine.ask(Command.SUSPEND))
            assert [answer[-1] for answer in answers] == [{"ok": {"ending": "suspended"}}] * 2
            assert await machine.end() is None
        assert attempts.refused == []
        assert is_suspended(machine.paths)
        left = {path.name for path in machine.paths.runtime.iterdir()}
        assert left == {machine.paths.podman_socket.name, machine.paths.podman_root_socket.name}
        kept = machine.supervisor.kept
        assert {str(place) for place in kept.pass_on().values()} == {
            os.fspath(machine.paths.podman_socket),
            os.fspath(machine.paths.podman_root_socket),
        }
        kept.close()

    play(story, short_path)


def test_client_that_comes_while_memory_is_saved_in_vain_is_answered(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        machine.qemu.migration = {"status": "active"}
        request = partial(control.request, machine.paths.control_socket, Command.SUSPEND, timeout_s=WAIT_S)
        suspending = asyncio.create_task(asyncio.to_thread(request))
        await until(lambda: "migrate" in machine.qmp.commands)
        client = asyncio.create_task(asyncio.to_thread(ping, machine.paths.podman_socket))
        await asyncio.sleep(0.2)
        assert not client.done()
        machine.qemu.migration = FAILED
        with pytest.raises(MachineError, match="QEMU cannot save the memory: no space"):
            await suspending
        assert (await client).startswith(b"HTTP/1.1 200 OK")
        await machine.reach(State.RUNNING)
        assert len(ssh.masters) == 2
        assert ping(machine.paths.podman_root_socket).startswith(b"HTTP/1.1 200 OK")
        assert not is_suspended(machine.paths)

    play(story, short_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the clients of a Unix socket")
def test_idle_machine_runs_on_for_a_client_that_comes_before_its_suspend(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        machine.qemu.migration = SAVED
        with connect(machine.paths.podman_socket) as client:
            machine.supervisor.life.post(SuspendRequested(if_idle=True))
            await until(lambda: machine.state.reason)
            client.sendall(PING)  # only then does this ssh answer others
            assert (await asyncio.to_thread(client.recv, 4096)).startswith(b"HTTP/1.1 200 OK")
            await machine.reach(State.RUNNING)
        assert len(ssh.masters) == 1
        assert "migrate" not in machine.qmp.commands

    play(story, short_path)


def shared(directory: Path, *options: str) -> MountedFolder:
    """A folder, with a process in place of its virtiofsd."""
    return MountedFolder(
        folder=Folder(source="/usr", target="/x"),
        transport=Transport.VIRTIOFS,
        virtiofsd=("sh", "-c", "sleep 600", *options),
        socket=directory / "folder.sock",
    )


async def refuse_release(server: FolderServer) -> Obstacle:
    return Obstacle("/x is in use")


def test_folder_in_use_stays_mounted_where_its_virtiofsd_passes_its_state_on(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderServer, "release", refuse_release)

    async def story(machine: FakeMachine) -> None:
        await fall_asleep(machine)
        suspension = load_suspension(machine.paths)
        assert suspension
        assert suspension.hardware.keeps_folders
        assert "device_del" not in machine.qmp.commands

    play(story, short_path, shared(short_path, "--migration-verify-handles"))


def test_folder_in_use_keeps_the_machine_awake_where_virtiofsd_cannot_pass_its_state_on(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderServer, "release", refuse_release)

    async def story(machine: FakeMachine) -> None:
        with pytest.raises(MachineError, match="/x is in use"):
            await asyncio.to_thread(control.request, machine.paths.control_socket, Command.SUSPEND, timeout_s=WAIT_S)
        await machine.reach(State.RUNNING)
        assert "migrate" not in machine.qmp.commands

    play(story, short_path, shared(short_path))


@pytest.mark.parametrize("patience", [1, 7])
def test_patience_lengthens_the_time_for_saving_the_memory(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    given: list[float] = []
    really_save = memory.save

    async def save(client: Monitor, path: Path, deadline: Deadline) -> None:
        given.append(deadline.limit_s)
        await really_save(client, path, deadline)

    monkeypatch.setattr(memory, "save", save)

    async def story(machine: FakeMachine) -> None:
        await fall_asleep(machine)

    play(story, short_path, patience=patience)
    (limit_s,) = given
    # The memory is this process's own, which has been growing with every test before this one.
    assert limit_s // patience in range(60, 400)
