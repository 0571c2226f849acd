"""Running a command line inside the test's own process."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator

import pytest

from tests.support.command_line import Machine, run_in_process


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The entry point `machine`, with these words on its command line."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield functools.partial(run_in_process, monkeypatch)
    for number, handler in handlers.items():
        signal.signal(number, handler)
