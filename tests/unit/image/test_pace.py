"""How many connections a download deserves, by what each of them brought."""

from __future__ import annotations

from machine.image.pace import MAX_WORKERS, Pace

MUCH = 10**9


def workers(*rates: float, left: int = MUCH) -> list[int]:
    pace = Pace()
    return [pace.observe(rate, left) for rate in rates]


def test_workers_come_while_each_brings_more() -> None:
    assert workers(1e6, 2e6, 3e6, 4e6, 4e6, 4e6) == [2, 3, MAX_WORKERS, MAX_WORKERS, MAX_WORKERS, MAX_WORKERS]


def test_worker_that_brings_nothing_goes_and_nobody_tries_again() -> None:
    assert workers(1e6, 1.1e6, 5e6, 9e6) == [2, 1, 1, 1]


def test_last_worker_goes_when_the_line_is_full() -> None:
    assert workers(1e6, 2e6, 2.1e6, 2e6) == [2, 3, 2, 2]


def test_download_that_is_nearly_done_stays_as_it_is() -> None:
    assert workers(1e6, 2e6, left=2_000_000) == [1, 1]


def test_limit_of_one_is_kept() -> None:
    pace = Pace(1)
    assert [pace.observe(rate, MUCH) for rate in (1e6, 2e6)] == [1, 1]
