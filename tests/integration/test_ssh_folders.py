"""Folders over a real SSH master to a real sshd, whose host stands for the guest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from machine import async_runner
from machine.errors import DeadlineError
from machine.folders import confine
from machine.folders.server import FolderServer
from machine.folders.settings import GuestScripts
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder
from machine.model.transport import Transport
from machine.sockets import listener_pid
from machine.ssh.command import command_argv
from machine.supervisor.helpers import helper_command
from machine.supervisor.master import Master
from tests.support.folder_settings import make_folder_settings
from tests.support.sshd import Sshd
from tests.support.waiting import WAIT_S

# Is ready for sshfs wherever it is asked to be.
MOUNT = 'printf "can sshfs\\nready 0 %s\\ndone\\n" "$4"'
# Instead of mounting: greets the SFTP server as version 3, and keeps the head of its answer.
SSHFS = r"""
printf '\0\0\0\5\1\0\0\0\3'
head -c 9 >"$3/greeting"
echo mounted >&2
exec sleep 60
"""
SFTP_VERSION = 2


@contextlib.asynccontextmanager
async def connected(sshd: Sshd, control: Path) -> AsyncIterator[int]:
    """A master that is up; yields its process number."""
    up = asyncio.Event()

    async def tell() -> None:
        up.set()

    task = asyncio.create_task(Master("box", sshd.target, control, {}).run(expects_delay=False, on_up=tell))
    try:
        async with asyncio.timeout(WAIT_S):
            await up.wait()
        pid = listener_pid(control)
        assert pid is not None
        yield pid
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_command_over_the_master_is_fed_and_read_to_its_end(sshd: Sshd, short_path: Path) -> None:
    text = "0123456789abcde\n" * 100_000

    async def run() -> None:
        async with connected(sshd, short_path / "ctl"):
            argv = command_argv(sshd.target, short_path / "ctl", "cat; echo low >&2; exit 3")
            completed = await async_runner.run(argv, stdin=text, timeout_s=WAIT_S, check=False)
            assert completed.stdout == text
            assert (completed.stderr, completed.returncode) == ("low\n", 3)

    asyncio.run(run())


def test_master_that_hangs_keeps_nobody_waiting_beyond_the_deadline(sshd: Sshd, short_path: Path) -> None:
    """It holds copies of its clients' pipes, which are not closed when a client is killed."""

    async def run() -> None:
        async with connected(sshd, short_path / "ctl") as master:
            argv = command_argv(sshd.target, short_path / "ctl", "echo there; exec sleep 60")
            asking = asyncio.create_task(async_runner.run(argv, stdin="", timeout_s=1.5))
            await asyncio.sleep(0.75)
            os.kill(master, signal.SIGSTOP)
            try:
                with pytest.raises(DeadlineError):
                    async with asyncio.timeout(WAIT_S):
                        await asking
            finally:
                os.kill(master, signal.SIGCONT)

    asyncio.run(run())


def test_folder_is_served_until_the_master_ends(sshd: Sshd, short_path: Path) -> None:
    control = short_path / "ctl"
    source, target = short_path / "source", short_path / "target"
    source.mkdir()
    target.mkdir()
    folder = Folder(source=os.fspath(source), target=os.fspath(target))
    problems: list[str | None] = []

    async def learn(supported: frozenset[Transport]) -> None:
        assert supported == {Transport.SSHFS}

    async def note_mounts() -> None: ...

    settings = make_folder_settings(
        short_path,
        ssh=lambda command: command_argv(sshd.target, control, command),
        scripts=GuestScripts(mount=MOUNT, release="", sshfs=SSHFS, changes=""),
        confine=helper_command(Path(confine.__file__)),
    )

    async def serve() -> None:
        server = FolderServer(
            [MountedFolder(folder=folder, transport=Transport.SSHFS)],
            settings,
            on_problem=problems.append,
            on_learned=learn,
            on_notice=lambda _: None,
            on_mounted=note_mounts,
        )
        async with connected(sshd, control):
            await server.mount()
            assert problems == [None]
            assert (target / "greeting").read_bytes()[4] == SFTP_VERSION
        async with asyncio.timeout(WAIT_S):
            while len(problems) < 2:
                await asyncio.sleep(0.05)
        assert (problems[1] or "").startswith(f"sshfs of {target} has ended")
        async with connected(sshd, control):
            await server.mount()
        assert problems[2] is None
        await server.end()

    asyncio.run(serve())
