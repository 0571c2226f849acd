"""The lines by which commands and supervisors speak."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from machine import __version__, control
from machine.errors import GuestError, MachineError, Page
from machine.model.state import MachineState, State
from machine.report import SilentReporter

RESTART = f"of this program; a restart changes to {__version__}"


class Story(SilentReporter):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def step(self, text: str) -> None:
        self.heard.append(f"step {text}")

    def notice(self, text: str) -> None:
        self.heard.append(f"notice {text}")


def test_steps_and_notices_are_passed_on_until_the_answer() -> None:
    lines: list[dict[str, Any]] = [
        {"step": "a"},
        {"notice": "b"},
        {"unknown": 1},
        {"ok": {"ending": "quit"}},
        {"step": "never read"},
    ]
    story = Story()
    assert control.follow([control.encode(line) for line in lines], story) == {"ending": "quit"}
    assert story.heard == ["step a", "notice b"]


def test_story_without_an_end_has_no_answer() -> None:
    assert control.follow([control.encode({"step": "a"})], Story()) is None


def test_error_comes_over_with_all_that_it_says() -> None:
    told = MachineError("it failed", details=["one", "two"], hint="do this", page=Page.PROXY)
    with pytest.raises(GuestError) as caught:
        control.follow([control.encode_error(told)], Story())
    assert (caught.value.line, caught.value.details) == ("it failed; do this", ("one", "two"))
    assert caught.value.page is Page.PROXY


@pytest.mark.parametrize("more", [{}, {"page": None}, {"page": "of a later version"}])
def test_error_of_another_version_has_no_page_that_is_unknown(more: dict[str, Any]) -> None:
    line = control.encode({"error": {"message": "it failed", "details": [], "hint": None, **more}})
    with pytest.raises(GuestError) as caught:
        control.follow([line], Story())
    assert caught.value.page is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"state": "running", "reason": "", "version": __version__}, None),
        ({"state": "running", "version": "0.0.1"}, f"under version 0.0.1 {RESTART}"),
        ({"state": "running"}, f"under version unknown {RESTART}"),
        ({"state": "degraded", "reason": "trouble", "version": "0.0.1"}, "trouble"),
        ({"state": "starting"}, None),
    ],
)
def test_running_machine_says_under_which_other_version_it_runs(answer: dict[str, Any], reason: str | None) -> None:
    assert control.decode_state(answer).reason == reason


def test_remedy_of_a_state_arrives_unless_the_supervisor_is_of_an_older_version() -> None:
    state = MachineState(state=State.DEGRADED, reason="trouble", remedy="machine restart box")
    answer = control.encode_state(state)
    assert control.decode_state(answer).remedy == "machine restart box"
    del answer["remedy"]
    assert control.decode_state(answer).remedy is None


def test_every_message_is_one_line() -> None:
    line = control.encode({"step": "two\nlines"})
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"step": "two\nlines"}


def test_socket_where_nobody_listens_has_no_state(tmp_path: Path) -> None:
    assert control.query_state(tmp_path / "control.sock") is None
