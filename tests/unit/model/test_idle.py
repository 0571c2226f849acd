"""When a machine is idle, and when an idle machine is suspended."""

from __future__ import annotations

import pytest

from machine.errors import MachineError
from machine.model.idle import OFF, Activity, IdleSuspend, is_due, is_idle, parse_idle_suspend
from machine.model.settings import check_value

QUARTER = IdleSuspend(after_s=900)
CARELESS = IdleSuspend(after_s=900, ignores_containers=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OFF, None),
        ("15m", QUARTER),
        ("900s", QUARTER),
        ("15m,containers", CARELESS),
        ("1m", IdleSuspend(after_s=60)),
        ("2h", IdleSuspend(after_s=7200)),
        ("30d", IdleSuspend(after_s=30 * 86400)),
    ],
)
def test_setting_is_read(text: str, expected: IdleSuspend | None) -> None:
    assert parse_idle_suspend(text) == expected


@pytest.mark.parametrize(
    "text", ["", "15", "59s", "31d", "15 m", "-1m", "15m,", "15m,all", "15M", "0m", "٣m", "off,containers"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        parse_idle_suspend(text)


@pytest.mark.parametrize("text", ["59s", "31d", "721h", "1h30m"])
def test_refusal_names_units_and_both_limits(text: str) -> None:
    with pytest.raises(MachineError) as refused:
        check_value("idle_suspend", text)
    assert refused.value.message == (
        '"idle_suspend" must be a whole number of s, m, h or d from 1m to 30d, like 15m or 15m,containers, or off'
    )


@pytest.mark.parametrize(
    ("connections", "containers", "wish", "expected"),
    [
        (0, 0, QUARTER, True),
        (1, 0, QUARTER, False),
        (0, 1, QUARTER, False),
        (0, None, QUARTER, False),
        (0, 1, CARELESS, True),
        (0, None, CARELESS, True),
        (2, None, CARELESS, False),
    ],
)
def test_idle_is_who_has_no_client_and_no_container(
    connections: int, containers: int | None, wish: IdleSuspend, expected: bool
) -> None:
    assert is_idle(Activity(connections=connections, containers=containers), wish) is expected


@pytest.mark.parametrize(
    ("idle_s", "up_s", "expected"),
    [(900, 900, True), (899, 5000, False), (900, 299, False), (900, 300, True), (0, 10_000, False)],
)
def test_suspend_is_due_after_the_time_but_not_soon_after_a_start(idle_s: float, up_s: float, expected: bool) -> None:
    assert is_due(QUARTER, idle_s=idle_s, up_s=up_s) is expected
