"""How `ops` and the rooms below talk to the person who waits: a protocol that `cli` implements."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Every text goes to stderr in the end; results are returned, not reported."""

    def step(self, text: str) -> None:
        """A new phase has begun."""

    def progress(self, done: int, total: int | None, *, unit: str = "bytes") -> None:
        """The current phase has done so much; `total` is None when unknown."""

    def notice(self, text: str) -> None:
        """Something that the person should know and need not act on."""


class SilentReporter:
    """Says nothing; for `--quiet` and for code that runs without a person."""

    def step(self, text: str) -> None: ...

    def progress(self, done: int, total: int | None, *, unit: str = "bytes") -> None: ...

    def notice(self, text: str) -> None: ...
