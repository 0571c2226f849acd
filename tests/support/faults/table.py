"""The table of faults: what may happen to a machine, what it then shows, and how it comes back with nothing lost."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.faults.containers import CONTAINERS
from tests.support.faults.fault import Fault, Verdict
from tests.support.faults.guests import GUESTS
from tests.support.faults.hosts import HOSTS
from tests.support.faults.kills import KILLS
from tests.support.faults.power_loss import POWER_LOSS

FAULTS: tuple[Fault, ...] = (*KILLS, *GUESTS, *CONTAINERS, *HOSTS, *POWER_LOSS)

_HEADINGS = ("fault", "state seen", "after", "recovery", "back after", "lost")


def report(verdicts: list[Verdict], *, headings: bool = True) -> Iterator[str]:
    """Yield the lines of a table of what the trials have found, and below it what did not hold."""
    rows = [*([_HEADINGS] if headings else []), *(_row(verdict) for verdict in verdicts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for verdict in verdicts:
        yield from (f"{verdict.name}: {problem}" for problem in verdict.problems)


def _row(verdict: Verdict) -> tuple[str, ...]:
    lost = ", ".join(verdict.lost) or "nothing"
    shown = verdict.shown or "-"
    return (verdict.name, shown, _seconds(verdict.shown_after_s), verdict.cure, _seconds(verdict.back_after_s), lost)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
