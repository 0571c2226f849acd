"""The words of `machine up`: its tables, what it says before it starts machines, and settings that differ."""

from __future__ import annotations

import pytest

from machine.cli.up import _intent, _row, _tell_pace, difference_lines
from machine.errors import MachineError
from machine.model.state import State
from machine.ops.up import Done, Outcome
from machine.ops.up_plan import Action, Change, Difference, Pace, Plan


@pytest.mark.parametrize(
    ("state", "done", "failed", "row"),
    [
        (State.RUNNING, (), False, ("box", "running", "unchanged")),
        (State.RUNNING, (Done.MADE, Done.STARTED), False, ("box", "running", "made and started")),
        (State.RUNNING, (Done.CHANGED, Done.RESUMED), False, ("box", "running", "changed and resumed")),
        (State.STOPPED, (Done.MADE,), True, ("box", "stopped", "made, then failed")),
        (None, (), True, ("box", "-", "failed")),
        (None, (Done.REMOVED,), False, ("box", "-", "removed")),
    ],
)
def test_rows_of_the_summary(
    state: State | None, done: tuple[Done, ...], failed: bool, row: tuple[str, str, str]
) -> None:
    error = MachineError("x") if failed else None
    assert _row(Outcome(name="box", state=state, done=done, error=error)) == row


CPUS = Difference(key="cpus", change=Change.NOW, actual="1", wanted="2")


@pytest.mark.parametrize(
    ("plan", "intent"),
    [
        (Plan(name="box", state=None, action=Action.MAKE), "make and start"),
        (Plan(name="box", state=State.STOPPED, action=Action.START), "start"),
        (Plan(name="box", state=State.STOPPED, action=Action.START, differences=(CPUS,)), "change cpus and start"),
        (Plan(name="box", state=State.SUSPENDED, action=Action.START), "resume"),
        (Plan(name="box", state=State.RUNNING, action=Action.NOTHING), "nothing"),
        (Plan(name="box", state=State.RUNNING, action=Action.REMOVE), "remove"),
        (Plan(name="far", state=State.RUNNING, action=Action.FORGET), "forget"),
    ],
)
def test_what_a_dry_run_says(plan: Plan, intent: str) -> None:
    assert _intent(plan) == intent


def test_differences_are_told_by_what_can_be_done_about_them() -> None:
    differences = (
        CPUS,
        Difference(key="memory", change=Change.STOPPED, actual="512", wanted="600"),
        Difference(key="usb", change=Change.STOPPED, actual="not set", wanted="bus=1,devnum=2"),
        Difference(key="provision", change=Change.NEVER),
    )
    plan = Plan(name="box", state=State.SUSPENDED, action=Action.START, differences=differences)
    assert difference_lines(plan, "m.toml") == [
        "box: cpus is 1, but 2 in m.toml; up changes this",
        (
            "box: memory is 512, but 600 in m.toml, usb is not set, but bus=1,devnum=2 in m.toml; "
            "to change this, stop the machine first: machine stop box"
        ),
        "box: provision is not as in m.toml; this cannot be changed while the machine exists",
    ]


@pytest.mark.parametrize(
    ("pace", "names", "told"),
    [
        (Pace(at_once=1), ["a"], ""),
        (Pace(at_once=2), ["a", "b"], "Starting 2 machines, all at once: a, b\n"),
        (Pace(at_once=1), ["a", "b"], "Starting 2 machines, 1 at a time: a, b\n"),
        (Pace(at_once=0, hosts=2), ["a", "b"], "Starting 2 machines, all at once: a, b\n"),
        (Pace(at_once=1, hosts=1), ["a", "b"], "Starting 2 machines, all at once: a, b\n"),
        (
            Pace(at_once=1, hosts=1),
            ["a", "b", "c"],
            "Starting 3 machines, 1 of the 2 virtual machines at a time: a, b, c\n",
        ),
        (
            Pace(at_once=1, lacking_mib=5),
            ["a"],
            "When all machines run, they have 5 MiB of memory more than this host, which may slow it down\n",
        ),
    ],
)
def test_pace_is_told_beforehand(pace: Pace, names: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    _tell_pace(pace, names)
    assert capsys.readouterr() == ("", told)
    _tell_pace(pace, names, quiet=True)
    assert ("Starting" in capsys.readouterr().err) is False
