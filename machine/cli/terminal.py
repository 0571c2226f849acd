"""Show progress on stderr, animated on a terminal, otherwise with a line for each step."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from machine.report import SilentReporter

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

_EVERY_S = 5.0


class Speed:
    """The average speed of a step since its first report. Bytes from an earlier attempt do not count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def rate(self, done: int) -> float:
        """Return the number of units per second since the first report. By now, `done` units are done."""
        if self._first is None:
            return 0.0
        since, before = self._first
        return (done - before) / max(time.monotonic() - since, 1e-3)

    def seconds_left(self, done: int, total: int) -> float:
        rate = self.rate(done)
        return (total - done) / rate if rate > 0 else 0.0

    def observe(self, done: int) -> None:
        self._first = self._first or (time.monotonic(), done)


class NoticeReporter(SilentReporter):
    """Prints notices, but not steps and progress. It is for commands that finish quickly."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def notice(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201


class NamedReporter(SilentReporter):
    """Prints a line for each step and each notice. Each line begins with the machine's name.

    It is for commands that work on several machines at once.
    """

    def __init__(self, name: str, *, steps: bool) -> None:
        self._name = name
        self._steps = steps

    def step(self, text: str) -> None:
        if self._steps:
            self.notice(text)

    def notice(self, text: str) -> None:
        # This is a single write, because other threads write, too.
        sys.stderr.write(f"{self._name}: {text}\n")


class PlainReporter(NoticeReporter):
    """Prints a line for each step, and another line every few seconds while a step goes on. It is for log files."""

    def __init__(self) -> None:
        self._step = ""
        self._last = 0.0
        self._speed = Speed()
        self._is_done = False

    def step(self, text: str) -> None:
        self._step = text
        self._last = time.monotonic()
        self._speed = Speed()
        self._is_done = False
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def progress(self, done: int, total: int | None, *, unit: str = "bytes") -> None:
        self._speed.observe(done)
        # What a step does after its last byte, such as syncing, is not measured, and so would repeat the same line.
        if not self._is_done and time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            self._is_done = total is not None and done >= total
            share = f"{done * 100 // total} %" if total else ""
            rate = f"{self._speed.rate(done) / 1024**2:.1f} MiB/s" if unit == "bytes" else f"{done} {unit}"
            left = f", {self._speed.seconds_left(done, total):.0f} s left" if total and unit == "bytes" else ""
            print(f"{self._step}: {share} {rate}{left}".replace("  ", " "), file=sys.stderr, flush=True)  # noqa: T201


class TerminalReporter:
    """Draws on a terminal. A spinner shows the time since a step began, and a bar shows the progress if it is known."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.text import Text

        class ForBytes(TransferSpeedColumn):
            """A column with the speed and the remaining time of a step that counts bytes."""

            def render(self, task: Task) -> Text:
                if task.total is None or task.finished or not task.fields.get("bytes"):
                    return Text("")
                left = TimeRemainingColumn(compact=True).render(task)
                return Text.assemble(super().render(task), " ", left)

        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            ForBytes(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress:
            if kind is None:
                self._finish_task()
            self._progress.stop()

    def step(self, text: str) -> None:
        assert self._progress
        self._finish_task()
        self._task = self._progress.add_task(text, total=None)

    def progress(self, done: int, total: int | None, *, unit: str = "bytes") -> None:
        assert self._progress
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, bytes=unit == "bytes")

    def notice(self, text: str) -> None:
        assert self._progress
        self._progress.console.print(text, markup=False, highlight=False)

    def _finish_task(self) -> None:
        if self._progress and self._task is not None:
            self._progress.update(self._task, total=1, completed=1)
            self._progress.stop_task(self._task)


def reporter(*, quiet: bool = False) -> NoticeReporter | TerminalReporter:
    """Return the reporter that suits stderr. With `quiet`, return one that prints only notices."""
    if quiet:
        return NoticeReporter()
    return TerminalReporter() if can_draw(sys.stderr) else PlainReporter()


def can_draw(stream: TextIO) -> bool:
    """Return whether a stream is a terminal on which lines can be drawn anew."""
    return stream.isatty() and _is_capable()


def wants_colours() -> bool:
    """Return whether a terminal may get colours: https://no-color.org/."""
    return _is_capable() and not os.environ.get("NO_COLOR")


def _is_capable() -> bool:
    return os.environ.get("TERM") not in ("dumb", "unknown")
