"""Running of a command line in the test's own process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

from machine.cli.main import main
from tests.support.world import Outcome

Machine = Callable[..., Outcome]


def run_in_process(monkeypatch: pytest.MonkeyPatch, *words: str, stdin: str = "") -> Outcome:
    """Call the entry point of `machine` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["machine", *words])
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return Outcome(status=ended.value.code, stdout=stdout.getvalue(), stderr=stderr.getvalue())
