"""Progress with and without a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest

from machine.cli import terminal
from machine.cli.terminal import NoticeReporter, PlainReporter, TerminalReporter, reporter, wants_colours


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "colours"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ],
)
def test_progress_has_colours_unless_the_user_wants_none(
    variables: dict[str, str], colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    drawn = Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    report = reporter()
    assert isinstance(report, TerminalReporter)
    with report:
        report.step("Fetching")
        report.progress(5, 10)
        report.notice("Be patient")
    text = drawn.getvalue()
    assert "Fetching" in text
    assert "Be patient" in text
    coloured = re.search(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])(?:;[0-9;]*)?m", text)
    assert bool(coloured) is colours
    assert wants_colours() is colours


def test_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    drawn = Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    report = reporter()
    assert isinstance(report, PlainReporter)
    report.step("Fetching")
    assert drawn.getvalue() == "Fetching\n"
    assert not wants_colours()


def test_quiet_reporter_prints_notices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", drawn := Terminal())
    report = reporter(quiet=True)
    assert type(report) is NoticeReporter
    report.step("Fetching")
    report.notice("Be patient")
    assert drawn.getvalue() == "Be patient\n"


def test_step_that_goes_on_after_its_last_byte_is_at_100_percent_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "_EVERY_S", 0.0)
    report = PlainReporter()
    for image in ("a.xz", "b.xz"):
        report.step(f"Unpacking {image}")
        for done in (5, 10, 10, 10):
            report.progress(done, 10)
    shares = [line.partition(" %")[0] for line in capsys.readouterr().err.splitlines()]
    assert shares == [
        "Unpacking a.xz", "Unpacking a.xz: 50", "Unpacking a.xz: 100",
        "Unpacking b.xz", "Unpacking b.xz: 50", "Unpacking b.xz: 100",
    ]  # fmt: skip
