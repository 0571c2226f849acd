"""What a supervisor makes of QEMU's words and of the guest's, with a QEMU that the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.ports import Driver
from machine.ports.forwarding import Forwarding
from machine.store import records
from machine.store.paths import MachinePaths
from machine.supervisor import qmp as supervisors_qmp
from machine.supervisor.events import (
    Event,
    GuestFailed,
    GuestReady,
    GuestReset,
    PauseCause,
    Paused,
    QemuAnswered,
    QemuSilent,
    QemuUp,
    Resumed,
)
from machine.supervisor.life import Life
from machine.supervisor.qmp import QmpLink, QmpSessions
from machine.supervisor.record import RecordKeeper
from machine.supervisor.tracker import LifeTracker
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.fake_machine import WAIT_S, until
from tests.support.qmp_server import QmpServer, serving_qmp


class NotedLife(LifeTracker):
    """Keeps every event, and reacts to none."""

    def __init__(self) -> None:
        super().__init__(Life())
        self.events: list[Event] = []

    def post(self, event: Event) -> None:
        self.events.append(event)


class NotedForwarding(Forwarding):
    """Keeps what it hears of QEMU."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def on_driver_up(self, driver: Driver) -> None:
        self.heard.append(f"{driver} is up")

    async def on_guest_reset(self) -> None:
        self.heard.append("reset")


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The sessions at work, and what came of them."""

    paths: MachinePaths
    link: QmpLink
    qmp: QmpServer
    life: NotedLife
    ports: NotedForwarding
    status: dict[str, str]

    def count(self, event: Event) -> int:
        return self.life.events.count(event)

    async def hear(self, *events: Event) -> None:
        """Wait until all of these have been posted, in whatever order."""
        await until(lambda: all(event in self.life.events for event in events))

    async def attend(self) -> None:
        """Wait until a session reads events."""
        await until(lambda: "query-status" in self.qmp.commands)


@contextlib.asynccontextmanager
async def hearing(
    directory: Path, *, heartbeat_s: float = 0.01, is_settled: bool = True, patience: int = 1
) -> AsyncIterator[Heard]:
    record = make_record()
    paths = save_machine(make_roots(directory), record)
    paths.runtime.mkdir(parents=True)
    status = {"status": "running"}
    life, ports, link = NotedLife(), NotedForwarding(), QmpLink()
    if not is_settled:
        link.is_settled.clear()
    sessions = QmpSessions(
        link, paths=paths, life=life, record=RecordKeeper(paths, record), ports=ports, heartbeat_s=heartbeat_s,
        patience=patience,
    )  # fmt: skip
    task = asyncio.create_task(sessions.run())
    try:
        async with serving_qmp(paths.qmp_socket, lambda command: status if command == "query-status" else {}) as qmp:
            yield Heard(paths=paths, link=link, qmp=qmp, life=life, ports=ports, status=status)
    finally:
        task.cancel()
        await asyncio.wait([task])


def run(
    work: Callable[[Heard], Awaitable[None]], directory: Path, *, heartbeat_s: float = 0.01, is_settled: bool = True
) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S), hearing(directory, heartbeat_s=heartbeat_s, is_settled=is_settled) as heard:
            await work(heard)

    asyncio.run(bounded())


def test_greeting_is_waited_for_and_told(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        await until(lambda: heard.ports.heard)
        assert heard.life.events[:2] == [QemuUp(), QemuAnswered()]
        assert heard.ports.heard == ["slirp is up"]
        assert heard.link.client is not None

    run(work, short_path)


def test_ports_are_opened_when_the_memory_is_loaded(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        await until(lambda: heard.count(QemuUp()) == 1)
        await asyncio.sleep(0.1)
        assert heard.ports.heard == []
        heard.link.is_settled.set()
        await until(lambda: heard.ports.heard)

    run(work, short_path, is_settled=False)


def test_qemu_that_hangs_up_is_silent_until_it_greets_again(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        await heard.attend()
        heard.qmp.hang_up()
        await until(lambda: heard.count(QemuUp()) == 2)
        assert QemuSilent() in heard.life.events
        await until(lambda: heard.ports.heard == ["slirp is up"] * 2)
        assert heard.qmp.sessions == 2

    run(work, short_path)


def test_commands_without_a_session_fail(short_path: Path) -> None:
    with pytest.raises(MachineError, match="QEMU"):
        asyncio.run(QmpLink().human_command("info network"))


def test_late_heartbeat_is_silence_and_its_answer_ends_it(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        await heard.attend()
        heard.qmp.running.clear()
        await heard.hear(QemuSilent())
        heard.life.events.clear()
        heard.qmp.running.set()
        await heard.hear(QemuAnswered())
        assert heard.qmp.sessions == 1

    run(work, short_path)


def test_guest_that_a_full_disk_has_stopped_is_continued(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        await heard.attend()
        assert "cont" not in heard.qmp.commands
        heard.status["status"] = "io-error"
        await heard.hear(Paused(cause=PauseCause.DISK_FULL))
        await until(lambda: "cont" in heard.qmp.commands)

    run(work, short_path)


def test_stop_says_at_once_that_a_full_disk_is_the_cause(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        await heard.attend()
        heard.status["status"] = "io-error"
        heard.qmp.emit("STOP")
        await heard.hear(Paused(cause=PauseCause.DISK_FULL))
        assert Paused() not in heard.life.events

    run(work, short_path)


def test_events_of_qemu_become_events_of_ours(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        await heard.attend()
        for event in ("STOP", "RESUME", "SHUTDOWN", "NIC_RX_FILTER_CHANGED", "RESET", "RESET", "RESET", "STOP"):
            heard.qmp.emit(event)
        await until(lambda: heard.life.events.count(Paused()) == 2)
        ours = [event for event in heard.life.events if not isinstance(event, QemuUp | QemuAnswered | QemuSilent)]
        assert ours == [Paused(), Resumed(), GuestReset(), Paused()]
        assert heard.ports.heard == ["slirp is up", "reset"]  # ports are closed before anybody can act on the event

    run(work, short_path)


def test_reports_of_the_guest_become_events(short_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def report(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ready b-1\nfailed no mirror \xff answers\nwhat?\n")
        writer.close()

    async def work() -> None:
        async with asyncio.timeout(WAIT_S), hearing(short_path) as heard:
            async with await asyncio.start_unix_server(report, heard.paths.ready_socket):
                failed = GuestFailed(cause="no mirror \N{REPLACEMENT CHARACTER} answers")
                await heard.hear(GuestReady(boot_id="b-1"), failed)
            await until(lambda: "unknown report on the ready port: 'what?\\n'" in caplog.messages)
            assert records.load_file(heard.paths.record).guest.provisioned

    asyncio.run(work())


def test_guest_without_a_ready_port_is_told_of(short_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(heard: Heard) -> None:
        await until(lambda: any("cannot report that it is ready" in message for message in caplog.messages))

    run(work, short_path)


def test_qemu_that_ends_before_it_greets_is_no_error_in_the_log(
    short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def work(heard: Heard) -> None:
        await heard.hear(QemuUp())
        heard.paths.qmp_socket.unlink()
        async with await asyncio.start_unix_server(hang_up, heard.paths.qmp_socket):
            heard.qmp.hang_up()
            await until(lambda: "Failed to receive Greeting" in caplog.text)

    with caplog.at_level(logging.DEBUG):
        run(work, short_path)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("status", ["paused", "postmigrate"])
def test_guest_that_a_killed_supervisor_has_left_standing_still_runs_on(status: str, short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        heard.paths.memory_in_work.touch()
        heard.paths.suspension.touch()
        heard.status["status"] = status
        await until(lambda: "cont" in heard.qmp.commands)
        heard.status["status"] = "running"
        await until(lambda: not heard.paths.suspension.exists())
        assert not heard.paths.memory_in_work.exists()
        assert heard.count(Paused()) == 0

    run(work, short_path)


def test_guest_that_somebody_has_paused_stays_so(short_path: Path) -> None:
    async def work(heard: Heard) -> None:
        heard.status["status"] = "paused"
        await heard.hear(Paused())
        assert "cont" not in heard.qmp.commands

    run(work, short_path)


@pytest.mark.parametrize("patience", [100, 1])
def test_patience_lengthens_the_time_for_qemus_greeting(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    monkeypatch.setattr(supervisors_qmp, "_GREETING_S", 0.05)

    async def count_sessions() -> int:
        async with hearing(short_path, patience=patience) as heard:
            heard.qmp.running.clear()
            await asyncio.sleep(0.5)
            heard.qmp.running.set()
            await heard.attend()
            return heard.qmp.sessions

    assert (asyncio.run(count_sessions()) == 1) is (patience > 1)
