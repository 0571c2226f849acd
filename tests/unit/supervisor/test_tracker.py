"""What the log has of a machine's life."""

from __future__ import annotations

import asyncio
import logging

import pytest

from machine.supervisor.events import (
    ApiFailed,
    Event,
    GuestReady,
    MasterLost,
    QemuAnswered,
    QemuSilent,
    SshSilence,
    SshUnanswered,
)
from machine.supervisor.life import Life
from machine.supervisor.phases import Phase
from machine.supervisor.tracker import LifeTracker

UP = Life(phase=Phase.UP, was_up=True, start_pending=False)


def log_of(life: Life, events: list[Event], caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.DEBUG, logger="machine")

    async def work() -> None:
        tracker = LifeTracker(life)
        for event in events:
            tracker.post(event)
            await tracker.advance()

    asyncio.run(work())
    return [entry.message for entry in caplog.records if entry.name.startswith("machine.")]


def test_change_is_logged_as_what_has_changed(caplog: pytest.LogCaptureFixture) -> None:
    assert log_of(Life(phase=Phase.BOOT), [GuestReady(boot_id="b")], caplog) == [
        "GuestReady(boot_id='b'): phase: boot -> ssh"
    ]


def test_event_that_changes_nothing_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert log_of(UP, [QemuAnswered(), QemuAnswered()], caplog) == []


def test_gap_is_logged_once_however_often_it_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    assert log_of(UP, [QemuSilent(), QemuSilent(), QemuAnswered(), QemuAnswered()], caplog) == [
        "QemuSilent(): silent: False -> True",
        "QemuAnswered(): silent: True -> False; clock_due: False -> True",
    ]


@pytest.mark.parametrize(
    ("phase", "event"),
    [
        (Phase.SSH, MasterLost(reason="refused")),
        (Phase.SSH, SshUnanswered(cause=SshSilence.REFUSED)),
        (Phase.API, ApiFailed(reason="refused")),
    ],
)
def test_attempts_that_fail_alike_are_logged_once(phase: Phase, event: Event, caplog: pytest.LogCaptureFixture) -> None:
    assert len(log_of(Life(phase=phase), [event] * 20, caplog)) == 1
