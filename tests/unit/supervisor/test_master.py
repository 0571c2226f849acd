"""SSH masters, one after another, with an ssh that the test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from machine.podman import api
from machine.sockets import listener_pid
from machine.ssh.command import SshTarget
from machine.supervisor import master as master_module
from machine.supervisor.events import SshSilence
from machine.supervisor.master import Master
from tests.support.fake_machine import WAIT_S, greeting_server, until
from tests.support.fake_ssh import FakeSsh


def make_master(directory: Path, *, port: int) -> Master:
    """The masters of a guest whose SSH server has this port of the host."""
    target = SshTarget(
        alias="machine-box",
        port=port,
        username="root",
        identity=directory / "key",
        known_hosts=directory / "known_hosts",
    )
    return Master("box", target, directory / "ctl", {directory / "podman.sock": "/run/podman/podman.sock"})


def run(work: Callable[[Master], Awaitable[None]], directory: Path) -> None:
    """Run `work` with the masters of a guest that greets at once."""

    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S), greeting_server() as port:
            await work(make_master(directory, port=port))

    asyncio.run(bounded())


async def never() -> None:
    raise AssertionError("the master is not up")


async def run_until_up(master: Master, *, expects_delay: bool = False) -> asyncio.Task[str]:
    """A master that forwards; its task ends with its last words."""
    up = asyncio.Event()

    async def tell() -> None:
        up.set()

    task = asyncio.create_task(master.run(expects_delay=expects_delay, on_up=tell))
    await up.wait()
    return task


def test_master_forwards_until_it_is_cancelled(ssh: FakeSsh, short_path: Path) -> None:
    async def work(master: Master) -> None:
        task = await run_until_up(master)
        await api.ping(short_path / "podman.sock", timeout_s=WAIT_S)
        assert listener_pid(short_path / "ctl") == ssh.masters[0]
        task.cancel()
        await asyncio.wait([task])
        assert listener_pid(short_path / "ctl") is None

    run(work, short_path)


def test_next_master_begins_when_the_one_before_has_ended(ssh: FakeSsh, short_path: Path) -> None:
    async def work(master: Master) -> None:
        first = await run_until_up(master)
        second = asyncio.create_task(master.run(expects_delay=False, on_up=never))
        await asyncio.sleep(0.05)
        assert len(ssh.masters) == 1
        second.cancel()
        first.cancel()
        third = await run_until_up(master)
        assert first.done()
        await until(lambda: listener_pid(short_path / "ctl") == ssh.masters[1])
        third.cancel()
        await asyncio.wait([third])

    run(work, short_path)


def test_master_that_has_outlived_its_supervisor_makes_way(ssh: FakeSsh, short_path: Path) -> None:
    async def work(master: Master) -> None:
        orphan = await run_until_up(master)
        (pid,) = ssh.masters
        successor = make_master(short_path, port=1)
        task = await run_until_up(successor)
        assert ssh.masters[0] == pid != listener_pid(short_path / "ctl")
        assert await orphan == "ssh exited with status -9"
        task.cancel()
        await asyncio.wait([task])

    run(work, short_path)


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ("Warning: x\nssh: connect: Connection refused\r\n", 255, "ssh: connect: Connection refused"),
        (
            "root@127.0.0.1: Permission denied (publickey).\r\n",
            255,
            'box rejects the machine\'s key for the user "root"',
        ),
        (
            "@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\r\nHost key verification failed.\r\n",
            255,
            "the server on {place} does not have the host key of box, so nothing was sent to it",
        ),
        ("", 255, "the SSH server no longer answers"),
        ("", 1, "ssh exited with status 1"),
    ],
)
def test_master_that_does_not_connect_leaves_its_last_words(
    ssh: FakeSsh, short_path: Path, said: str, status: int, words: str
) -> None:
    ssh.refuse(said, status=status)

    async def work(master: Master) -> None:
        reason = await master.run(expects_delay=False, on_up=never)
        assert reason == words.format(place=master.target.place)

    run(work, short_path)


def test_host_without_ssh_says_so(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(short_path))

    async def work(master: Master) -> None:
        assert await master.run(expects_delay=False, on_up=never) == "ssh is not installed on this host"

    run(work, short_path)


def test_guest_that_takes_its_time_is_asked_for_its_greeting_first(ssh: FakeSsh, short_path: Path) -> None:
    async def work() -> None:
        is_up = asyncio.Event()
        async with asyncio.timeout(WAIT_S), greeting_server(is_up) as port:
            master = make_master(short_path, port=port)
            connected = asyncio.create_task(run_until_up(master, expects_delay=True))
            await asyncio.sleep(0.05)
            assert ssh.masters == []
            is_up.set()
            task = await connected
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(work())


def test_master_tells_why_there_is_no_greeting(ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_module, "_GREETING_S", 0.05)
    monkeypatch.setattr(master_module, "_GREETING_PAUSE_S", 0.01)
    told: list[SshSilence] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    async def work() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        waiting = asyncio.create_task(make_master(short_path, port=port).await_greeting(told.append))
        await until(lambda: told == [SshSilence.CLOSED])
        async with await asyncio.start_server(hang_up, "127.0.0.1", port):
            await until(lambda: told[-1] is SshSilence.REFUSED)
        async with await asyncio.start_server(hang, "127.0.0.1", port):
            await until(lambda: told[-1] is SshSilence.SILENT)
            waiting.cancel()
            await asyncio.wait([waiting])

    asyncio.run(work())
    assert len(set(told)) == 3


@pytest.mark.parametrize("in_doubt", [False, True])
def test_clock_of_the_guest_is_set_over_the_master(ssh: FakeSsh, short_path: Path, in_doubt: bool) -> None:
    async def work(master: Master) -> None:
        assert await master.set_guest_clock(in_doubt=in_doubt)
        (told,) = ssh.clocks
        assert told > 1_700_000_000

    run(work, short_path)


def test_clock_that_cannot_be_set_is_no_error(ssh: FakeSsh, short_path: Path) -> None:
    ssh.refuse("mux_client_request_session: session request failed\n")

    async def work(master: Master) -> None:
        assert not await master.set_guest_clock(in_doubt=False)

    run(work, short_path)
