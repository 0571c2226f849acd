"""Guests in trouble: a real supervisor asks a guest that the test plays what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from machine.control import Command
from machine.model.config import MachineConfig
from machine.model.record import GuestFacts, Pending
from machine.model.state import MachineState, State
from machine.supervisor import guest_check
from machine.supervisor.diagnosis import PodmanHealth
from machine.supervisor.events import DeadlinePassed
from machine.supervisor.guest_check import CheckSettings, GuestCheck
from machine.supervisor.intervals import Intervals
from machine.supervisor.life import Life
from machine.supervisor.phases import Phase
from machine.supervisor.tracker import LifeTracker
from machine.supervisor.vitals import Vitals
from tests.support.builders import make_config
from tests.support.fake_machine import INTERVALS, FakeMachine, fake_machine, until
from tests.support.fake_ssh import FakeSsh

QUICK = replace(INTERVALS, guest_s=0.05, guest_max_share=1.0, guest_start_s=0.01)
CONFIG: MachineConfig = make_config()
HEALTHY = tuple(f"0: 2 0 00010000 0001 01 3 {socket}" for socket in (CONFIG.user_socket, CONFIG.root_socket))
FULL = (*HEALTHY, "space 0 4096 9999 9999 ext2/ext3 /var")
DISK_FULL = MachineState(state=State.DEGRADED, reason="the guest's disk is full")
FAILURE = "journal {at:.3f} box systemd[1]: podman.service: Failed with result 'exit-code'."

Story = Callable[[FakeMachine], Awaitable[None]]


def play(story: Story, directory: Path, intervals: Intervals = QUICK, **fields: Any) -> None:
    async def work() -> None:
        async with fake_machine(directory, intervals=intervals, **fields) as machine:
            await story(machine)

    asyncio.run(work())


def failing_podman() -> tuple[str, ...]:
    """What a guest tells whose Podman has just failed three times."""
    now = time.time()
    return (
        "uptime 10",
        f"btime {now:.0f}",
        "failed   podman.service loaded failed failed Podman API Service",
        f"journal {now:.3f} box podman[7]: Error: database or disk is full",
        *[FAILURE.format(at=now + 10)] * 3,
    )


def errors(machine: FakeMachine) -> list[dict[str, Any]]:
    return [line["error"] for line in machine.progress if "error" in line]


def questions(ssh: FakeSsh, depth: str) -> list[str]:
    return [command for command in ssh.commands if command.startswith(f"sh -s -- {depth} core ")]


def test_start_fails_soon_with_the_guests_trouble_and_leaves_it_running(ssh: FakeSsh, short_path: Path) -> None:
    ssh.fail_api(True)
    ssh.tell(*FULL, *failing_podman())

    async def story(machine: FakeMachine) -> None:
        await machine.say("ready boot-1")
        await until(lambda: errors(machine))
        assert errors(machine) == [
            {
                "message": 'unable to start "box" in phase api: the guest\'s disk is full',
                "details": [
                    "Podman's last lines in the guest:",
                    "  Error: database or disk is full",
                    "failed units in the guest: podman.service",
                ],
                "hint": "the guest keeps running, degraded; remove files with: machine ssh box, or enlarge the disk "
                "with: machine stop box && machine set --disk-size GIB box && machine start box",
                "page": "running",
            }
        ]
        assert machine.state == DISK_FULL
        assert "quit" not in machine.qmp.commands
        ssh.fail_api(False)
        ssh.tell(*HEALTHY)
        await machine.reach(State.RUNNING)

    play(story, short_path)


def test_start_that_takes_too_long_asks_the_guest_for_the_cause(ssh: FakeSsh, short_path: Path) -> None:
    ssh.fail_api(True)
    ssh.tell(*HEALTHY, "journal 1.0 box podman[7]: Error: no runtime")

    async def story(machine: FakeMachine) -> None:
        await machine.say("ready boot-1")
        await until(lambda: machine.supervisor.life.current.phase is Phase.API)
        machine.supervisor.life.post(DeadlinePassed(phase=Phase.API))
        await until(lambda: errors(machine))
        (error,) = errors(machine)
        assert error["message"] == 'unable to start "box" in phase api: Podman fails in the guest: no runtime'

    play(story, short_path, INTERVALS, guest=GuestFacts(provisioned=True))


def test_start_that_takes_too_long_fails_even_if_the_guest_tells_nothing(ssh: FakeSsh, short_path: Path) -> None:
    ssh.fail_api(True)

    async def story(machine: FakeMachine) -> None:
        await machine.say("ready boot-1")
        await until(lambda: "503" in (machine.supervisor.life.current.reason or ""))
        ssh.refuse("no")
        machine.supervisor.life.post(DeadlinePassed(phase=Phase.API))
        await until(lambda: errors(machine))
        (error,) = errors(machine)
        assert error["message"].startswith('unable to start "box" in phase api: timed out waiting for the Podman API')
        assert error["hint"] == "the guest keeps running, degraded; look for the cause with: machine ssh box"
        assert machine.state.state is State.DEGRADED

    play(story, short_path, INTERVALS)


def test_machine_is_degraded_while_its_guests_disk_is_full(
    ssh: FakeSsh, short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ssh.tell(*HEALTHY)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        ssh.tell(*FULL)
        await until(lambda: machine.state == DISK_FULL)
        ssh.tell(*HEALTHY)
        await machine.reach(State.RUNNING)
        before = len(questions(ssh, "brief"))
        written = len(caplog.records)
        await until(lambda: len(questions(ssh, "brief")) > before + 1)
        assert "sh -s" not in "\n".join(entry.getMessage() for entry in caplog.records[written:])

    play(story, short_path)


def test_podman_that_has_failed_degrades_the_machine_until_it_answers(ssh: FakeSsh, short_path: Path) -> None:
    ssh.tell(*HEALTHY)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        ssh.fail_api(True)
        # As nobody listens on the sockets, a full question follows.
        ssh.tell("podman-failed socket", "journal 1.0 box podman[7]: Error: no runtime")
        await until(lambda: machine.state.reason == "Podman fails in the guest: no runtime")
        ssh.fail_api(False)
        ssh.tell(*HEALTHY)
        await machine.reach(State.RUNNING)

    play(story, short_path)


def test_podman_whose_socket_somebody_has_stopped_degrades_the_machine(ssh: FakeSsh, short_path: Path) -> None:
    ssh.tell(*HEALTHY)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        ssh.tell(HEALTHY[0], "podman-closed root masked")
        await until(lambda: machine.state.reason == "podman.socket of root is masked in the guest")
        (listed,) = await machine.ask(Command.PORT_LIST)
        assert listed["ok"]["api"] == {"state": "waiting", "reason": machine.state.reason}
        assert not questions(ssh, "quiet")  # that would start the socket again
        ssh.tell(*HEALTHY)
        await machine.reach(State.RUNNING)

    play(story, short_path)


def test_start_whose_podman_socket_is_masked_fails_before_its_deadline(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machine.supervisor.guest_check._LISTENING_S", 0.3)
    ssh.fail_api(True)
    ssh.tell("podman-closed core masked")

    async def story(machine: FakeMachine) -> None:
        await machine.say("ready boot-1")
        await until(lambda: errors(machine))
        (error,) = errors(machine)
        assert error["message"].endswith("in phase api: podman.socket of core is masked in the guest")
        unmask = "systemctl --user unmask podman.socket && systemctl --user enable --now podman.socket"
        assert f"start it with: machine ssh --username core box '{unmask}'" in error["hint"]

    play(story, short_path)


def test_start_waits_for_the_users_systemd_as_long_as_it_is_starting(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machine.supervisor.guest_check._LISTENING_S", 0.1)
    ssh.fail_api(True)
    ssh.tell("podman-starting")

    async def story(machine: FakeMachine) -> None:
        await machine.say("ready boot-1")
        await until(lambda: len(questions(ssh, "full")) > 5)
        assert not errors(machine)
        ssh.tell("podman-closed core ")
        await until(lambda: errors(machine))
        (error,) = errors(machine)
        assert "systemd of core does not run in the guest" in error["message"]

    play(story, short_path)


def test_podman_that_was_taken_away_degrades_the_machine_before_anybody_uses_it(ssh: FakeSsh, short_path: Path) -> None:
    ssh.tell(*HEALTHY)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        await until(lambda: len(questions(ssh, "brief")) > 1)
        ssh.tell(*HEALTHY, "no-podman")
        missing = "Podman fails in the guest: podman is missing, or may not be executed"
        await until(lambda: machine.state.reason == missing)
        ssh.tell(*HEALTHY)
        await machine.reach(State.RUNNING)

    play(story, short_path)


def test_clock_that_is_off_is_set(ssh: FakeSsh, short_path: Path) -> None:
    ssh.tell(*HEALTHY, "uptime 10", f"btime {time.time() - 5000:.0f}")

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        await until(lambda: ssh.clocks)
        ssh.tell(*HEALTHY)
        await machine.reach(State.RUNNING)

    play(story, short_path)


def test_guest_that_stands_still_is_not_asked(ssh: FakeSsh, short_path: Path) -> None:
    ssh.tell(*HEALTHY)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        await until(lambda: questions(ssh, "brief"))
        machine.qemu.status = "paused"
        machine.qmp.emit("STOP")
        await machine.reach(State.PAUSED)
        async with asyncio.timeout(10):  # for a question that was under way
            before = -1
            while before != (before := len(ssh.commands)):
                await asyncio.sleep(0.5)

    play(story, short_path)


def test_disk_that_was_enlarged_is_grown_where_podman_fails_for_want_of_space(ssh: FakeSsh, short_path: Path) -> None:
    ssh.fail_api(True)
    ssh.tell(*FULL, *failing_podman())

    async def story(machine: FakeMachine) -> None:
        await machine.say("ready boot-1")
        await until(lambda: "bash -s" in ssh.commands)
        ssh.fail_api(False)
        ssh.tell(*HEALTHY)
        await until(lambda: {"ok": {}} in machine.progress or errors(machine))
        assert ssh.commands.count("bash -s") == 1

    play(story, short_path, pending=Pending(guest_outdated=True))


def watch_pauses(check: type[GuestCheck], clock: Callable[[], float], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the first three pauses between the questions of a check to a guest that is up."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("machine.supervisor.guest_check.asyncio.sleep", sleep)
    monkeypatch.setattr("machine.supervisor.guest_check.time.monotonic", clock)
    settings = CheckSettings(
        ssh=lambda _: [], script="", grow="", time_scale=1, every_s=60, max_share=0.05, start_every_s=3
    )
    life = LifeTracker(Life(phase=Phase.UP, was_up=True, start_pending=False))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(check(settings, life=life, record=None).watch())  # type: ignore[arg-type]
    return pauses


@pytest.mark.parametrize(("took_s", "pause_s"), [(1.0, 60), (5.0, 100), (40.0, 180)])
def test_slow_guest_is_asked_more_rarely(took_s: float, pause_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question takes at most a twentieth of the guest's time."""
    clock = 0.0

    class SlowCheck(GuestCheck):
        async def examine(self, *, is_full: bool, deadline: Phase | None = None) -> None:  # noqa: ARG002
            nonlocal clock
            clock += took_s

    pauses = watch_pauses(SlowCheck, lambda: clock, monkeypatch)
    assert pauses == [60, pytest.approx(pause_s), pytest.approx(pause_s)]


def test_guest_whose_podman_is_bad_is_asked_again_soon_although_its_state_follows_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tracker of the machine's state has not dealt with any event here."""
    clock = 0.0

    class ClosedCheck(GuestCheck):
        async def _ask(self, *, is_full: bool) -> tuple[Vitals | None, float]:  # noqa: ARG002
            nonlocal clock
            clock += 5.0
            return Vitals(), 0.0

        def _is_suspicious(self, vitals: Vitals) -> bool:  # noqa: ARG002
            return False

        def _podman_health(self, vitals: Vitals) -> PodmanHealth:  # noqa: ARG002
            return PodmanHealth.CLOSED

    monkeypatch.setattr("machine.supervisor.guest_check.diagnose", lambda *_, **__: None)
    assert watch_pauses(ClosedCheck, lambda: clock, monkeypatch) == [60, 30, 30]


def test_guest_that_does_not_answer_is_degraded_until_it_does(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_check, "_ANSWER_S", 1.0)
    ssh.tell(*HEALTHY)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        ssh.hang(True)
        await until(lambda: machine.state.reason == "the guest does not answer")
        assert not machine.state.connected
        ssh.hang(False)
        await machine.reach(State.RUNNING)

    play(story, short_path)
