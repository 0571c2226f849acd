"""What commands can ask of a machine, and what is undone where the record cannot be written."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from machine.control import Command
from machine.errors import GuestError, MachineError
from machine.folders.server import FolderServer
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder
from machine.model.ports import Endpoint, Forward, Origin, PortState, PortStatus, SocketPath
from machine.model.record import GuestFacts
from machine.model.state import State
from machine.model.transport import Transport
from machine.ports.forwarding import Forwarding
from machine.store import records
from machine.store.paths import MachinePaths
from machine.supervisor.commands import Commands
from machine.supervisor.diagnosis import NO_ANSWER
from machine.supervisor.events import PauseCause, StopRequested
from machine.supervisor.life import Life
from machine.supervisor.phases import Phase
from machine.supervisor.progress import ProgressBroadcaster, ReportPipe
from machine.supervisor.record import RecordKeeper
from machine.supervisor.tracker import LifeTracker
from tests.support.builders import make_record, make_roots, save_machine

UP = Life(phase=Phase.UP, was_up=True, start_pending=False)
BOOTED = GuestFacts(provisioned=True)


class HeldForwards(Forwarding):
    """Grants everything."""

    def __init__(self) -> None:
        self.held: list[Forward] = []

    async def add(self, forward: Forward) -> bool:
        is_new = forward not in self.held
        if is_new:
            self.held.append(forward)
        return is_new

    async def remove(self, endpoint: Endpoint | SocketPath, origin: Origin) -> None:
        self.held = [one for one in self.held if (one.endpoint, one.origin) != (endpoint, origin)]

    def statuses(self) -> list[tuple[Forward, PortStatus]]:
        return [(forward, PortStatus(state=PortState.OPEN)) for forward in self.held]


class HeldFolders(FolderServer):
    """Mounts everything."""

    def __init__(self) -> None:
        self.held: list[Folder] = []

    async def add(self, folder: Folder) -> None:
        self.held.append(folder)

    async def remove(self, target: str) -> None:
        self.held = [folder for folder in self.held if folder.target != target]

    @property
    def folders(self) -> Sequence[MountedFolder]:
        return [MountedFolder(folder=folder, transport=Transport.SSHFS) for folder in self.held]


@dataclass
class CommandedMachine:
    """Commands of a machine, and all that they touch."""

    paths: MachinePaths
    commands: Commands
    life: LifeTracker
    ports: HeldForwards
    folders: HeldFolders
    starting: ProgressBroadcaster
    told: list[object] = field(default_factory=list)

    def carry_out(self, command: Command, value: str = "") -> dict[str, object]:
        return asyncio.run(self.commands.carry_out(command, value))

    def break_record(self) -> None:
        self.paths.record.write_text('{"schema": 99}')

    def next_event(self) -> object:
        return asyncio.run(self.life._events.get())


def make_box(directory: Path, *, life: Life = UP, guest: GuestFacts = BOOTED) -> CommandedMachine:
    record = make_record(guest=guest)
    paths = save_machine(make_roots(directory), record)
    tracker, ports, folders, stopping = LifeTracker(life), HeldForwards(), HeldFolders(), ProgressBroadcaster()
    starting = ProgressBroadcaster()
    commands = Commands(
        life=tracker,
        record=RecordKeeper(paths, record),
        ports=ports,
        folders=folders,
        starting=starting,
        stopping=stopping,
    )
    box = CommandedMachine(
        paths=paths, commands=commands, life=tracker, ports=ports, folders=folders, starting=starting
    )
    stopping.add(lambda line: box.told.append(json.loads(line)))
    return box


def test_machine_is_starting_until_the_command_that_starts_it_has_returned(tmp_path: Path) -> None:
    box = make_box(tmp_path)
    reading, writing = os.pipe()
    box.starting.add_pipe(ReportPipe(writing))
    states = [box.commands.state]
    box.starting.ok()
    assert json.loads(os.read(reading, 100)) == {"ok": {}}
    states.append(box.commands.state)
    os.close(reading)  # as when the command returns, or is killed
    states.append(box.commands.state)
    assert [one.state for one in states] == [State.STARTING, State.STARTING, State.RUNNING]
    os.close(writing)


def test_forward_is_granted_listed_and_in_the_record(tmp_path: Path) -> None:
    box = make_box(tmp_path)
    answer = box.carry_out(Command.PORT_ADD, "8080:80")
    assert answer == box.carry_out(Command.PORT_LIST)
    (forward,) = box.ports.held
    assert records.load_file(box.paths.record).config.forwards == (forward,)
    box.carry_out(Command.PORT_REMOVE, "8080:80")
    assert box.ports.held == []
    assert records.load_file(box.paths.record).config.forwards == ()


def test_forward_that_cannot_be_noted_is_taken_back(tmp_path: Path) -> None:
    box = make_box(tmp_path)
    box.carry_out(Command.PORT_ADD, "8080:80")
    box.break_record()
    for value in ("8080:80", "9090:90"):
        with pytest.raises(MachineError, match="older version"):
            box.carry_out(Command.PORT_ADD, value)
    assert [str(forward.endpoint) for forward in box.ports.held] == ["127.0.0.1:8080/tcp"]  # that was there before


def test_folder_is_mounted_listed_and_in_the_record(tmp_path: Path) -> None:
    box = make_box(tmp_path)
    assert box.carry_out(Command.MOUNT_ADD, "/a:/b") == box.carry_out(Command.MOUNT_LIST)
    assert records.load_file(box.paths.record).config.folders == (Folder(source="/a", target="/b"),)
    assert box.carry_out(Command.MOUNT_REMOVE, "/b") == {"folders": []}
    assert records.load_file(box.paths.record).config.folders == ()


def test_folder_that_cannot_be_noted_is_unmounted_again(tmp_path: Path) -> None:
    box = make_box(tmp_path)
    box.break_record()
    with pytest.raises(MachineError, match="older version"):
        box.carry_out(Command.MOUNT_ADD, "/a:/b")
    assert box.folders.held == []


@pytest.mark.parametrize(
    ("life", "reason"),
    [
        (replace(UP, pause=PauseCause.REQUESTED), "it is paused"),
        (replace(UP, pause=PauseCause.DISK_FULL), str(PauseCause.DISK_FULL.reason)),
        (replace(UP, silent=True), "QEMU does not answer"),
        (replace(UP, phase=Phase.SSH, reason="SSH connection lost: eof"), "SSH connection lost: eof"),
        (Life(phase=Phase.BOOT), "it is starting"),
    ],
)
def test_folders_of_a_guest_that_cannot_be_reached_stay_as_they_are(life: Life, reason: str, tmp_path: Path) -> None:
    box = make_box(tmp_path, life=life)
    for command, value in ((Command.MOUNT_ADD, "/a:/b"), (Command.MOUNT_REMOVE, "/b")):
        with pytest.raises(GuestError) as caught:
            box.carry_out(command, value)
        assert caught.value.line == f"the machine cannot be reached: {reason}"
    assert records.load_file(box.paths.record).config.folders == ()


def test_forward_is_not_asked_of_a_qemu_that_does_not_answer(tmp_path: Path) -> None:
    box = make_box(tmp_path, life=replace(UP, silent=True))
    with pytest.raises(MachineError, match="QEMU does not answer"):
        box.carry_out(Command.PORT_ADD, "8080:80")
    assert box.ports.held == []
    paused = make_box(tmp_path / "paused", life=replace(UP, pause=PauseCause.REQUESTED))
    paused.carry_out(Command.PORT_ADD, "8080:80")
    assert len(paused.ports.held) == 1


def test_state_is_that_of_the_life(tmp_path: Path) -> None:
    assert make_box(tmp_path).commands.state.state is State.RUNNING


def test_state_has_the_remedy_of_this_machine(tmp_path: Path) -> None:
    box = make_box(tmp_path, life=replace(UP, diagnosis=NO_ANSWER))
    name = records.load_file(box.paths.record).name
    assert box.commands.state.remedy == NO_ANSWER.remedy(name)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("life", "guest", "is_disposable"),
    [
        (UP, BOOTED, False),
        (Life(), BOOTED, False),
        (UP, GuestFacts(), False),  # its record could not be written
        (Life(), GuestFacts(), True),
    ],
)
def test_stop_waits_for_every_guest_but_one_that_is_made_anew(
    tmp_path: Path, life: Life, guest: GuestFacts, is_disposable: bool, at_once: bool
) -> None:
    box = make_box(tmp_path, life=life, guest=guest)
    box.commands.stop(at_once=at_once)
    assert box.next_event() == StopRequested(at_once=at_once or is_disposable)
    notice = {"notice": "The first boot was not complete, so the next start will repeat it"}
    assert box.told == ([notice] if is_disposable else [])


@pytest.mark.parametrize(
    ("life", "guest", "told"),
    [
        (
            Life(),
            GuestFacts(),
            "a first boot cannot be suspended; wait until it is complete: machine wait --for running box",
        ),
        (Life(), BOOTED, "it is starting"),
        (replace(UP, pause=PauseCause.REQUESTED), BOOTED, "it is paused"),
    ],
)
def test_suspend_is_refused_with_the_reason(tmp_path: Path, life: Life, guest: GuestFacts, told: str) -> None:
    with pytest.raises(MachineError) as refused:
        make_box(tmp_path, life=life, guest=guest).commands.suspend()
    assert refused.value.line == told
