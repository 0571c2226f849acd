"""What is made of the guest's report about the user's scripts."""

from __future__ import annotations

from machine.ops.start_scripts import Outcome, notices, parse_report

NAMES = ["a b.sh", "two.sh", "three.sh"]

REPORT = """\
0 001-root-a_b.sh
| all is well
7 002-user-two.sh
| 0 001-root-not-a-header
|
| two: no
waiting 003-root-three.sh
"""


def test_report_is_taken_apart() -> None:
    assert parse_report(REPORT) == [
        Outcome(number=1, status="0", last_lines=("all is well",)),
        Outcome(number=2, status="7", last_lines=("0 001-root-not-a-header", "", "two: no")),
        Outcome(number=3, status="waiting"),
    ]
    assert parse_report("| nothing\n\nnonsense\n") == []


def test_failure_is_told_with_its_last_lines_and_what_it_kept_from_running() -> None:
    assert notices(parse_report(REPORT), NAMES) == [
        "two.sh failed with exit status 7; its last lines:\n0 001-root-not-a-header\n\ntwo: no",
        "three.sh did not run",
    ]


def test_success_is_nothing_to_tell() -> None:
    assert notices([Outcome(number=1, status="0", last_lines=("x",))], NAMES[:1]) == []


def test_interruption_and_an_incomplete_report_are_told() -> None:
    assert notices([Outcome(number=1, status="began")], NAMES[:2]) == [
        "The guest has reported on only 1 of 2 scripts",
        "a b.sh was interrupted and will not be run again",
    ]
