"""Sizes and times, against what docker/go-units documents and does (its size_test.go and duration_test.go)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from machine.model.units import GIB, MIB, ago, bytes_size, human_duration
from tests.support.builders import CREATED

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
MONTH = 30 * DAY
YEAR = 365 * DAY


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (1024 * 1024, "1MiB"),
        (1048575, "1024KiB"),
        (2 * MIB, "2MiB"),
        (3.42 * GIB, "3.42GiB"),
        (5.372 * 1024 * GIB, "5.372TiB"),
        (2.22 * 1024**2 * GIB, "2.22PiB"),
        (2048 * MIB, "2GiB"),
        (3000 * MIB, "2.93GiB"),
        (100 * GIB, "100GiB"),
    ],
)
def test_size_as_go_units_writes_it(count: float, text: str) -> None:
    assert bytes_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.45, "Less than a second"),
        (1, "1 second"),
        (45, "45 seconds"),
        (46, "46 seconds"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (90, "About a minute"),
        (3 * MINUTE, "3 minutes"),
        (35 * MINUTE, "35 minutes"),
        (35 * MINUTE + 40, "35 minutes"),
        (45 * MINUTE, "45 minutes"),
        (45 * MINUTE + 40, "45 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 29 * MINUTE, "About an hour"),
        (HOUR + 31 * MINUTE, "2 hours"),
        (HOUR + 59 * MINUTE, "2 hours"),
        # Half an hour is rounded up, at every number of hours.
        (HOUR + 30 * MINUTE, "2 hours"),
        (2 * HOUR + 30 * MINUTE, "3 hours"),
        (3 * HOUR, "3 hours"),
        (3 * HOUR + 29 * MINUTE, "3 hours"),
        (3 * HOUR + 31 * MINUTE, "4 hours"),
        (4 * HOUR + 30 * MINUTE, "5 hours"),
        (24 * HOUR, "24 hours"),
        (36 * HOUR, "36 hours"),
        (100_000, "28 hours"),
        (2 * DAY, "2 days"),
        (7 * DAY, "7 days"),
        (13 * DAY + 5 * HOUR, "13 days"),
        (2 * WEEK, "2 weeks"),
        (2 * WEEK + 4 * DAY, "2 weeks"),
        (3 * WEEK, "3 weeks"),
        (4 * WEEK + 3 * DAY, "4 weeks"),
        (MONTH, "4 weeks"),
        (MONTH + 2 * WEEK, "6 weeks"),
        (2 * MONTH, "2 months"),
        (2 * MONTH + 2 * WEEK, "2 months"),
        (3 * MONTH, "3 months"),
        (5 * MONTH + WEEK, "5 months"),
        (13 * MONTH, "13 months"),
        (23 * MONTH, "23 months"),
        (24 * MONTH, "24 months"),
        (24 * MONTH + 2 * WEEK, "2 years"),
        (3 * YEAR + 2 * MONTH, "3 years"),
        # Years are counted from whole hours, not from rounded ones.
        (3 * YEAR - 10 * MINUTE, "2 years"),
    ],
)
def test_duration_as_go_units_writes_it(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_moment_is_told_by_its_distance() -> None:
    assert ago(CREATED, CREATED + timedelta(days=3)) == "3 days ago"
