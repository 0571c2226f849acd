"""The folder server beside a guest that is a shell script here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from machine.errors import BadInputError, MachineError, NotFoundError
from machine.folders import retries
from machine.folders import server as server_module
from machine.folders.handover import load_folders, save_folders
from machine.folders.server import FolderServer
from machine.folders.settings import FolderSettings, GuestScripts
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder
from machine.model.guest_os import NO_COMPOSEFS
from machine.model.host import HostOS
from machine.model.transport import Transport, TransportChoice
from tests.support.folder_settings import make_folder_settings

T = TypeVar("T")

A, B = Folder(source="/usr", target="/x"), Folder(source="/etc", target="/y")
ALL = "can virtiofs\ncan 9p\ncan sshfs\n"
PATIENCE_S = 20.0

SSHFS_WORKS = "echo mounted >&2; exec cat"
SSHFS_FAILS = "echo cannot fuse >&2"


class Guest:
    """Answers folders.sh as it is told to, and runs `sshfs` for the other script."""

    def __init__(self, directory: Path) -> None:
        self.reports = [f"{ALL}done\n"]
        self.sshfs = SSHFS_WORKS
        self.asked: list[list[str]] = []
        self.problems: list[str | None] = []
        self.learned: list[frozenset[Transport]] = []
        self.notices: list[str] = []
        self.mounts = 0
        self.directory = directory

    def ssh(self, command: str) -> list[str]:
        words = shlex.split(command)
        if words[:2] == ["sh", "-c"]:
            return ["sh", "-c", self.sshfs]
        self.asked.append(words[3:])
        report = self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]
        return ["sh", "-c", f"cat >/dev/null; printf %s {shlex.quote(report)}"]

    async def note_mounts(self) -> None:
        self.mounts += 1

    def until(self, name: str) -> str:
        """A command that waits until the test makes this file, or has ended and its directory is gone."""
        return f"until [ -e {self.directory}/{name} ] || ! [ -d {self.directory} ]; do sleep 0.02; done"

    async def learn(self, transports: frozenset[Transport]) -> None:
        self.learned.append(transports)

    def settings(self, choice: TransportChoice = TransportChoice.AUTO) -> FolderSettings:
        return make_folder_settings(
            self.directory,
            ssh=self.ssh,
            scripts=GuestScripts(mount="mount", release="release", sshfs="sshfs", changes="changes"),
            confine=("confine",),
            choice=choice,
            host_os=HostOS.MACOS,
        )

    @contextlib.asynccontextmanager
    async def serve(
        self, *folders: MountedFolder, choice: TransportChoice = TransportChoice.AUTO
    ) -> AsyncIterator[FolderServer]:
        server = FolderServer(
            folders,
            self.settings(choice),
            on_problem=self.problems.append,
            on_learned=self.learn,
            on_notice=self.notices.append,
            on_mounted=self.note_mounts,
        )
        async with asyncio.timeout(PATIENCE_S):
            try:
                yield server
            finally:
                await server.end()


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    server = tmp_path / "sftp-server"
    server.write_text("#!/bin/sh\ncat\n")
    server.chmod(stat.S_IRWXU)
    monkeypatch.setattr(server_module, "find_sftp_server", lambda: str(server))
    return Guest(tmp_path)


def over(transport: Transport, folder: Folder = A) -> MountedFolder:
    return MountedFolder(folder=folder, transport=transport)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def finish(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_guest_mounts_what_has_a_transport_and_tells_what_it_can(guest: Guest) -> None:
    async def mount() -> None:
        missing = MountedFolder(folder=B, transport=None, problem="it is gone")
        guest.reports = [f"{ALL}mounted 0\ndone\n"]
        async with guest.serve(over(Transport.VIRTIOFS), missing) as server:
            await server.mount()
            assert [each.problem for each in server.folders] == [None, "it is gone"]

    finish(mount())
    assert guest.asked == [["virtiofs", A.tag, "rw", "/x"]]
    assert guest.learned == [frozenset(Transport)]
    assert guest.problems[-1] == "it is gone"


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ("can virtiofs\nfailed 0 no such device\ndone\n", "/x is not mounted: no such device"),
        (
            "can virtiofs\nsealed 0\ndone\n",
            (
                "/x is not mounted: the root directory is read-only; run this as root in the guest, and "
                f"restart the machine: rpm-ostree kargs --append-if-missing={NO_COMPOSEFS}"
            ),
        ),
        ("can virtiofs\n", "/x is not mounted: the script that mounts folders failed"),
    ],
)
def test_folder_that_the_guest_does_not_mount_is_a_problem(guest: Guest, report: str, problem: str) -> None:
    async def mount() -> None:
        guest.reports = [report]
        async with guest.serve(over(Transport.VIRTIOFS)) as server:
            await server.mount()

    finish(mount())
    assert guest.problems[-1] == problem


def test_guest_that_could_not_be_asked_is_asked_again(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_S", 0.0)

    async def mount() -> None:
        guest.reports = ["can virtiofs\n", "can virtiofs\n", f"{ALL}mounted 0\nmounted 1\ndone\n"]
        async with guest.serve(over(Transport.VIRTIOFS), over(Transport.NINEP, B)) as server:
            await server.mount()
            assert all(each.problem for each in server.folders)
            await server.mount_again()
            assert not any(each.problem for each in server.folders)
            asked = len(guest.asked)
            await server.mount_again()
            assert len(guest.asked) == asked

    finish(mount())


def test_sshfs_that_does_not_begin_is_tried_again(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_S", 0.0)

    async def mount() -> None:
        guest.reports = [f"{ALL}ready 0 /x\ndone\n"]
        guest.sshfs = SSHFS_FAILS
        async with guest.serve(over(Transport.SSHFS)) as server:
            await server.mount()
            guest.sshfs = SSHFS_WORKS
            await server.mount_again()

    finish(mount())
    assert guest.problems == ["sshfs of /x has ended: cannot fuse", None]


def test_ssh_that_cannot_be_run_is_a_problem_and_no_defect(guest: Guest) -> None:
    async def mount() -> None:
        settings = replace(guest.settings(), ssh=lambda _: ["/nonexistent"])
        server = FolderServer(
            [over(Transport.NINEP)],
            settings,
            on_problem=guest.problems.append,
            on_learned=guest.learn,
            on_notice=guest.notices.append,
            on_mounted=guest.note_mounts,
        )
        await server.mount()

    finish(mount())
    assert guest.problems == ["/x is not mounted: /nonexistent is not installed on this host"]


def test_transport_that_the_guest_lacks_is_replaced_by_ssh_where_the_choice_is_ours(guest: Guest) -> None:
    async def mount(choice: TransportChoice) -> MountedFolder:
        guest.reports = ["can sshfs\nfailed 0 no device\ndone\n", "can sshfs\nready 0 /x\ndone\n"]
        async with guest.serve(over(Transport.NINEP), choice=choice) as server:
            await server.mount()
            return server.folders[0]

    assert finish(mount(TransportChoice.AUTO)) == over(Transport.SSHFS)
    assert guest.notices == ["sshfs is used instead of 9p for /x: the guest has no 9p"]
    ours = finish(mount(TransportChoice.NINEP))
    assert (ours.transport, ours.problem) == (Transport.NINEP, "/x is not mounted: no device")


def test_sshfs_that_fails_gives_its_last_words(guest: Guest) -> None:
    async def mount() -> None:
        guest.reports = [f"{ALL}ready 0 /x\ndone\n"]
        guest.sshfs = SSHFS_FAILS
        async with guest.serve(over(Transport.SSHFS)) as server:
            await server.mount()

    finish(mount())
    assert guest.problems == ["sshfs of /x has ended: cannot fuse"]


def test_end_of_a_session_is_a_problem_and_the_next_master_brings_another(guest: Guest) -> None:
    async def mount() -> None:
        guest.reports = [f"{ALL}ready 0 /x\ndone\n"]
        guest.sshfs = f"echo mounted >&2; {guest.until('end')}"
        async with guest.serve(over(Transport.SSHFS)) as server:
            await server.mount()
            assert guest.problems == [None]
            (guest.directory / "end").touch()
            await until(lambda: len(guest.problems) > 1)
            (guest.directory / "end").unlink()
            await server.mount()

    finish(mount())
    assert guest.problems == [None, "sshfs of /x has ended", None]


def test_folder_whose_session_has_ended_is_mounted_again_until_it_stays(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_S", 0.0)

    async def run() -> None:
        guest.reports = [f"{ALL}ready 0 /x\ndone\n"]
        guest.sshfs = "echo mounted >&2; sleep 0.05; echo killed >&2"
        async with guest.serve(over(Transport.SSHFS)) as server:
            await server.mount()
            await until(lambda: len(guest.problems) > 1)
            guest.sshfs = SSHFS_FAILS
            await server.mount_again()
            guest.sshfs = SSHFS_WORKS
            for _ in range(2):
                await server.mount_again()

    finish(run())
    assert guest.problems == [None, "sshfs of /x has ended: killed", "sshfs of /x has ended: cannot fuse", None]


def test_folder_is_added_and_removed_while_the_machine_runs(guest: Guest) -> None:
    async def change() -> None:
        guest.reports = [f"{ALL}done\n", f"{ALL}ready 0 /y\ndone\n", f"{ALL}done\n"]
        async with guest.serve() as server:
            await server.add(B)
            assert load_folders(guest.settings().state_file) == [over(Transport.SSHFS, B)]
            await server.remove("/y")
            assert load_folders(guest.settings().state_file) == []
            assert server.is_empty
            with pytest.raises(NotFoundError, match="no folder is mounted at /y"):
                await server.remove("/y")

    finish(change())
    assert guest.asked == [[], ["sshfs", B.tag, "rw", "/y"], []]
    assert guest.problems == [None, None]
    assert guest.mounts == len(guest.asked)


def test_folder_that_cannot_be_added_leaves_nothing_behind(guest: Guest) -> None:
    async def add() -> None:
        guest.reports = [f"{ALL}done\n", f"{ALL}failed 0 read-only file system\ndone\n"]
        async with guest.serve() as server:
            with pytest.raises(MachineError, match=r"^/x is not mounted: read-only file system$"):
                await server.add(A)
            assert server.is_empty

    finish(add())
    assert guest.problems[-1] is None


@pytest.mark.parametrize(
    ("choice", "report", "line"),
    [
        (
            TransportChoice.NINEP,
            ALL,
            "folders cannot be added with 9p while the machine runs; stop the machine and try again",
        ),
        (
            TransportChoice.SSHFS,
            "installer dnf\n",
            (
                "the machine has no sshfs, which is needed to add a folder while it runs; "
                "run there as root: dnf install -y fuse-sshfs"
            ),
        ),
        (
            TransportChoice.AUTO,
            "can 9p\n",
            "the machine has no sshfs, which is needed to add a folder while it runs",
        ),
    ],
)
def test_running_machine_takes_folders_by_ssh_alone(
    guest: Guest, choice: TransportChoice, report: str, line: str
) -> None:
    async def add() -> None:
        guest.reports = [f"{report}done\n"]
        async with guest.serve(choice=choice) as server:
            await server.add(A)

    with pytest.raises(MachineError) as caught:
        finish(add())
    assert caught.value.line.startswith(line)


def test_host_over_ssh_without_sshfs_is_told_with_what_mends_it(guest: Guest) -> None:
    async def work() -> None:
        guest.reports = ["installer apk\nready 0 /x\ndone\n"]
        async with guest.serve(over(Transport.SSHFS)) as server:
            await server.mount()

    finish(work())
    assert guest.problems[-1] == (
        "/x is not mounted: the host has no sshfs; "
        "run there as root: apk add --update-cache sshfs, and restart the machine"
    )


def test_guest_that_does_not_answer_has_not_said_that_it_lacks_sshfs(guest: Guest) -> None:
    guest.reports = ["can sshfs\n"]  # the script does not reach its end

    async def work() -> None:
        async with guest.serve() as server:
            with pytest.raises(MachineError) as caught:
                await server.add(Folder(source=str(guest.directory), target="/x"))
            reason = "the script that mounts folders failed"
            assert caught.value.line == f"the machine cannot be asked whether it has sshfs: {reason}"
            assert server.is_empty

    asyncio.run(work())


def test_second_of_two_that_were_asked_for_at_once_finds_its_place_taken(guest: Guest) -> None:
    async def add() -> None:
        async with guest.serve(over(Transport.SSHFS)) as server:
            with pytest.raises(BadInputError, match='"/x" and "/x/y" overlap'):
                await server.add(Folder(source="/b", target="/x/y"))
            assert server.folders == (over(Transport.SSHFS),)

    finish(add())


def test_virtiofsd_that_ends_is_a_problem_of_its_folder_and_one_that_stays_is_ended(guest: Guest) -> None:
    async def start() -> None:
        shell = ["sh", "-c"]
        short = MountedFolder(
            folder=A, transport=Transport.VIRTIOFS, virtiofsd=[*shell, "exit 3"], socket=guest.directory / "0"
        )
        long = MountedFolder(
            folder=B, transport=Transport.VIRTIOFS, virtiofsd=[*shell, "exec sleep 600"], socket=guest.directory / "1"
        )
        async with guest.serve(short, long) as server:
            await server.start_daemons(None)
            await until(lambda: bool(guest.problems))

    finish(start())
    assert guest.problems == [
        "virtiofsd for /usr has exited with status 3; restart the machine to share the folder again"
    ]


def test_end_of_a_virtiofsd_of_another_supervisor_is_told_once_and_kept_for_the_next(guest: Guest) -> None:
    async def run() -> None:
        async with guest.serve(over(Transport.VIRTIOFS)) as server:
            for _ in range(2):
                server.daemons.report_end(A)

    finish(run())
    ended = "virtiofsd for /usr has ended; restart the machine to share the folder again"
    assert guest.problems == [ended]
    assert [each.problem for each in load_folders(guest.settings().state_file)] == [ended]


def served_by_virtiofsd(guest: Guest, folder: Folder, name: str) -> MountedFolder:
    """A folder whose virtiofsd ends when the file `name` appears."""
    command = f"{guest.until(name)}; exit 3"
    return replace(
        over(Transport.VIRTIOFS, folder), virtiofsd=["sh", "-c", command], socket=guest.directory / f"{name}.s"
    )


def test_folder_whose_virtiofsd_has_ended_is_left_out_and_named(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_QEMUS_END_S", 0)
    ended = "virtiofsd for /etc has exited with status 3; restart the machine to share the folder again"

    async def run() -> None:
        guest.reports = [f"{ALL}mounted 0\nmounted 1\ndone\n", f"{ALL}mounted 0\ndone\n", "no answer\n"]
        folders = [served_by_virtiofsd(guest, A, "end-a"), served_by_virtiofsd(guest, B, "end-b")]
        async with guest.serve(*folders) as server:
            await server.start_daemons(None)
            await server.mount()
            (guest.directory / "end-b").touch()
            await until(lambda: len(guest.asked) == 2)
            assert server.hangs
            with pytest.raises(MachineError, match="/z is not mounted"):  # the script fails
                await server.add(Folder(source="/usr/lib", target="/z"))
            # Neither does the other folder get the blame, nor is the culprit forgotten at the next connection.
            assert [each.problem for each in server.folders] == [None, ended]
            guest.reports = [f"{ALL}mounted 0\ndone\n"]
            await server.mount()
            assert [each.problem for each in server.folders] == [None, ended]
            assert [each.problem for each in load_folders(guest.settings().state_file)] == [None, ended]

    finish(run())
    assert guest.asked[0] == ["virtiofs", A.tag, "rw", "/x", "virtiofs", B.tag, "rw", "/y"]
    assert guest.asked[1] == guest.asked[-1] == ["virtiofs", A.tag, "rw", "/x", "ended", B.tag, "rw", "/y"]
    assert guest.problems[-1] == ended


def test_supervisor_that_takes_over_knows_which_virtiofsd_has_ended(guest: Guest) -> None:
    async def run() -> None:
        guest.reports = [f"{ALL}done\n"]
        async with guest.serve(replace(over(Transport.VIRTIOFS), problem="virtiofsd has ended")) as server:
            assert server.hangs
            await server.mount()
            server.report()

    finish(run())
    assert guest.asked == [["ended", A.tag, "rw", "/x"]]
    assert guest.problems[-1] == "virtiofsd has ended"


def test_source_that_is_removed_while_the_machine_runs_is_a_problem_of_its_folder(guest: Guest) -> None:
    place = guest.directory / "place"
    place.mkdir()
    folder = Folder(source=str(place), target="/x")

    async def run() -> None:
        guest.reports = [f"{ALL}mounted 0\nmounted 1\ndone\n"]
        async with guest.serve(over(Transport.VIRTIOFS, B), over(Transport.VIRTIOFS, folder)) as server:
            await server.check_sources()
            await server.mount()
            place.rename(guest.directory / "aside")
            await server.check_sources()
            await server.mount()  # as after a reconnection
            assert [each.problem for each in server.folders] == [None, f"the folder {place} was removed from this host"]
            place.mkdir()
            await server.check_sources()
            assert (guest.problems[-1] or "").startswith(f"the folder {place} was replaced, mounted or unmounted")
            place.rmdir()
            (guest.directory / "aside").rename(place)
            await server.check_sources()

    finish(run())
    assert guest.problems[-1] is None


def test_source_that_was_missing_at_the_start_is_found_when_it_is_made(guest: Guest) -> None:
    place = guest.directory / "place"
    missing = f"the folder {place} does not exist on this host"
    here = f"the folder {place} is on this host now; restart the machine to share it"
    folder = MountedFolder(folder=Folder(source=str(place), target="/x"), transport=None, problem=missing)

    async def run() -> None:
        async with guest.serve(folder) as server:
            await server.check_sources()
            assert guest.problems == []  # nothing new
            place.touch()
            await server.check_sources()
            assert guest.problems == [f"{place} is not a directory"]
            place.unlink()
            place.mkdir()
            for _ in range(2):
                await server.check_sources()
            assert guest.problems[1:] == [here]
            assert [each.problem for each in load_folders(guest.settings().state_file)] == [here]
            place.rmdir()
            await server.check_sources()

    finish(run())
    assert guest.problems[2:] == [missing]


def test_folder_that_no_transport_could_share_keeps_its_problem(guest: Guest) -> None:
    async def run() -> None:
        async with guest.serve(MountedFolder(folder=A, transport=None, problem="no transport works")) as server:
            await server.check_sources()
            assert [each.problem for each in server.folders] == ["no transport works"]

    finish(run())
    assert guest.problems == []


def test_source_that_is_replaced_while_the_machine_runs_is_served_over_ssh_again(guest: Guest) -> None:
    place = guest.directory / "place"
    place.mkdir()
    folder = Folder(source=str(place), target="/x")

    async def run() -> None:
        guest.reports = [f"{ALL}ready 0 /x\ndone\n"]
        async with guest.serve(over(Transport.SSHFS, folder)) as server:
            await server.mount()
            place.rename(guest.directory / "aside")
            await server.check_sources()
            assert guest.problems[-1] == f"the folder {place} was removed from this host"
            place.mkdir()
            await server.check_sources()
            assert guest.problems[-1:] == [None]
            await server.check_sources()

    finish(run())
    assert len(guest.asked) == 2


def test_folder_whose_source_has_become_a_link_in_another_folder_is_not_mounted(guest: Guest) -> None:
    outer = guest.directory / "outer"
    outer.mkdir()
    (outer / "data").symlink_to("/etc")
    folders = [Folder(source=str(outer), target="/x"), Folder(source=str(outer / "data"), target="/y")]

    async def run() -> None:
        guest.reports = [f"{ALL}ready 0 /x\nready 1 /y\ndone\n"]
        async with guest.serve(*(over(Transport.SSHFS, folder) for folder in folders)) as server:
            await server.mount()
            first, second = server.folders
            assert first.problem is None
            assert (second.problem or "").startswith(
                f"/y is not mounted: {outer}/data is a symbolic link inside another shared folder"
            )

    finish(run())


def test_folder_without_a_source_cannot_be_added(guest: Guest) -> None:
    async def add() -> None:
        guest.reports = [f"{ALL}done\n", f"{ALL}ready 0 /x\ndone\n", f"{ALL}done\n"]
        async with guest.serve() as server:
            with pytest.raises(MachineError, match="the folder /nonexistent does not exist on this host"):
                await server.add(Folder(source="/nonexistent", target="/x"))
            assert server.is_empty

    finish(add())
    assert guest.asked[-1] == []  # what the guest has made ready is taken back


def test_notes_bring_back_what_a_suspend_needs(tmp_path: Path) -> None:
    folder = replace(over(Transport.VIRTIOFS), virtiofsd=("/v", "--x"), socket=tmp_path / "folder.sock")
    save_folders([folder, over(Transport.NINEP, B)], tmp_path / "notes")
    assert load_folders(tmp_path / "notes") == [folder, over(Transport.NINEP, B)]


def test_notes_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert load_folders(tmp_path / "nothing") == []
    for text in ("", "{}x", '["x"]', json.dumps([["/a:/x", "nfs"]])):
        (tmp_path / "notes").write_text(text)
        assert load_folders(tmp_path / "notes") == []
    (tmp_path / "notes").write_text(json.dumps([["/a:/x", None]]))
    (folder,) = load_folders(tmp_path / "notes")
    assert (folder.transport, folder.problem) == (
        None,
        "no transport was found for the folder when the machine started",
    )
