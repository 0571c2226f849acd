"""Whether a published port stays, as a table."""

from __future__ import annotations

import pytest

from machine.model.ports import Claim
from machine.ports.checks import PATIENCE_S, Cause, Check, Verdict, judge

ACTIVE, DORMANT = Claim.ACTIVE, Claim.DORMANT
OPEN, CLOSED, UNDECIDED = Verdict.OPEN, Verdict.CLOSED, Verdict.UNDECIDED
EXPOSED, UNEXPOSED, INHERITED = Cause.EXPOSED, Cause.UNEXPOSED, Cause.INHERITED


@pytest.mark.parametrize(
    ("cause", "claim", "verdict"),
    [
        (EXPOSED, ACTIVE, OPEN),
        (EXPOSED, DORMANT, UNDECIDED),
        (EXPOSED, None, CLOSED),
        (UNEXPOSED, ACTIVE, OPEN),
        (UNEXPOSED, DORMANT, CLOSED),
        (UNEXPOSED, None, CLOSED),
        (INHERITED, ACTIVE, OPEN),
        (INHERITED, DORMANT, CLOSED),
        (INHERITED, None, CLOSED),
    ],
)
def test_what_follows_from_a_list(cause: Cause, claim: Claim | None, verdict: Verdict) -> None:
    assert judge(Check(cause=cause, since=100), claim, now=103, complete=True) is verdict


def test_container_that_does_not_start_loses_its_port_in_the_end() -> None:
    check = Check(cause=EXPOSED, since=100)
    assert judge(check, DORMANT, now=99 + PATIENCE_S, complete=True) is UNDECIDED
    assert judge(check, DORMANT, now=100 + PATIENCE_S, complete=True) is CLOSED


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("claim", [DORMANT, None])
def test_nothing_is_closed_while_a_list_is_missing(cause: Cause, claim: Claim | None) -> None:
    check = Check(cause=cause, since=0)
    assert judge(check, claim, now=10 * PATIENCE_S, complete=False) is UNDECIDED
    assert judge(check, ACTIVE, now=10 * PATIENCE_S, complete=False) is OPEN
