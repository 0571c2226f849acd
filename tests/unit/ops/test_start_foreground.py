"""`machine start --foreground`: failed starts whose guests keep running, and signals."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from machine import lock
from machine.errors import GuestError
from machine.model.state import ORPHANED, STOPPED, MachineState, State
from machine.ops import start_foreground
from machine.ops.start import Started
from machine.qemu.shutdown import Ending
from machine.report import Reporter
from machine.store.paths import MachinePaths
from tests.support.builders import make_context, make_record, make_roots, save_machine

DEGRADED = MachineState(state=State.DEGRADED, reason="the guest's disk is full")
FAILURE = GuestError('unable to start "box" in phase api: the guest\'s disk is full', hint="it keeps running")


class Notices:
    """A reporter that keeps the notices."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


class Attempt:
    """A start in the foreground that fails and leaves a degraded guest, with a supervisor that this test plays."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.context = make_context(home)
        self.paths: MachinePaths = save_machine(make_roots(home), make_record("box"))
        self.later = Notices()
        self.events: list[str] = []
        self.states: list[MachineState] = []
        self._naps: list[Callable[[], None]] = []
        self._held: int | None = None
        monkeypatch.setattr(start_foreground, "begin", self._begin)
        monkeypatch.setattr(start_foreground, "machine_state", lambda _: self.states.pop(0))
        monkeypatch.setattr(start_foreground, "stop", self._stop)
        monkeypatch.setattr("time.sleep", lambda _: self._naps.pop(0)())

    def run(self, states: list[MachineState], *naps: Callable[[], None]) -> None:
        """Run the start, which finds these states. What `naps` do happens while it waits."""
        self.states, self._naps = states, list(naps)
        with pytest.raises(GuestError) as caught:
            start_foreground.run(
                "box", self.context, cast("Reporter", Notices()), self._on_started, later=cast("Reporter", self.later)
            )
        assert caught.value is FAILURE
        assert (self.states, self._naps) == ([], [])

    def end_supervisor(self) -> None:
        assert self._held is not None
        os.close(self._held)
        self._held = None
        self.events.append("supervisor ended")

    def _begin(self, *_: object) -> tuple[None, None]:
        self.events.append("begin")
        self._held = lock.acquire(self.paths.supervisor_lock)
        if len(self.events) == 1:
            raise FAILURE
        return None, None

    def _stop(self, *_: object) -> Ending:
        self.events.append("stop")
        return Ending.POWERED_DOWN

    def _on_started(self, _: Started) -> None:
        self.events.append("started")


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    return Attempt(tmp_path, monkeypatch)


def nothing() -> None:
    """Let time pass."""


def interrupt() -> None:
    raise KeyboardInterrupt


def test_degraded_machine_is_attended_until_it_stops(attempt: Attempt) -> None:
    attempt.run([DEGRADED, STOPPED], nothing, attempt.end_supervisor)
    assert (attempt.events, attempt.later.texts) == (["begin", "supervisor ended"], [FAILURE.line])


def test_degraded_machine_is_stopped_by_an_interrupt(attempt: Attempt) -> None:
    attempt.run([DEGRADED], nothing, interrupt)
    assert attempt.events == ["begin", "stop"]


def test_degraded_guest_that_loses_its_supervisor_gets_a_new_one(attempt: Attempt) -> None:
    attempt.run([DEGRADED, ORPHANED, STOPPED], attempt.end_supervisor, attempt.end_supervisor)
    assert attempt.events == ["begin", "supervisor ended", "begin", "supervisor ended"]


def test_failed_start_that_leaves_no_guest_is_only_told(attempt: Attempt) -> None:
    attempt.run([STOPPED])
    assert (attempt.events, attempt.later.texts) == (["begin"], [])


def test_signal_that_comes_as_soon_as_clients_are_waited_for_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[MachinePaths] = []

    def end_waiting(paths: MachinePaths) -> bool:
        ended.append(paths)
        return True

    def interrupt() -> None:
        raise KeyboardInterrupt

    context = make_context(tmp_path)
    paths = save_machine(make_roots(tmp_path), make_record("box"))
    monkeypatch.setattr(start_foreground, "start_on_demand", lambda *_: None)
    monkeypatch.setattr(start_foreground, "end_waiting", end_waiting)
    start_foreground.run_on_demand("box", context, interrupt)
    assert ended == [paths]
