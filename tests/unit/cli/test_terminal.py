"""Progress without a terminal."""

from __future__ import annotations

import pytest

from machine.cli import terminal
from machine.cli.terminal import PlainReporter


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
