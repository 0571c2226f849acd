"""When a host is ready, and how errors become checks."""

from __future__ import annotations

import pytest

from machine.errors import MachineError
from machine.model.doctor_check import Check, Status, failure_from, is_ready


@pytest.mark.parametrize(
    ("statuses", "ready"),
    [
        ([], True),
        ([Status.OK, Status.WARNING], True),
        ([Status.FAILURE], False),
        ([Status.OK, Status.FAILURE, Status.WARNING], False),
    ],
)
def test_host_is_ready_without_failures(statuses: list[Status], ready: bool) -> None:
    assert is_ready([Check(name="x", status=status, finding="y") for status in statuses]) is ready


def test_error_is_a_failure_in_its_own_words() -> None:
    hinted = failure_from("x", MachineError("it is broken", hint="mend it"))
    assert (hinted.status, hinted.finding, hinted.remedy) == (Status.FAILURE, "it is broken", "mend it")
    assert failure_from("x", MachineError("it is broken"), "buy another").remedy == "buy another"
