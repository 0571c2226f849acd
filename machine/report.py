"""The interface through which `ops` and the packages below it report progress to the user. `cli` implements it."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives progress and notices, which end up on stderr. Results are returned, not reported."""

    def step(self, text: str) -> None:
        """Report that a new step has begun."""

    def progress(self, done: int, total: int | None, *, unit: str = "bytes") -> None:
        """Report how many units of the current step are done. `total` is None if their number is unknown."""

    def notice(self, text: str) -> None:
        """Tell the user something that is neither a step nor an error."""


class SilentReporter:
    """Reports nothing. It is for `--quiet`, and for code that runs without a user."""

    def step(self, text: str) -> None: ...

    def progress(self, done: int, total: int | None, *, unit: str = "bytes") -> None: ...

    def notice(self, text: str) -> None: ...
