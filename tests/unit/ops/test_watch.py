"""What `machine events` tells of two looks at the same machines."""

from __future__ import annotations

from machine.model.state import STOPPED, MachineState, State
from machine.ops.watch import changes
from tests.builders import CREATED

RUNNING = MachineState(state=State.RUNNING)
DEGRADED = MachineState(state=State.DEGRADED, reason="why")


def test_changes_are_told_by_name() -> None:
    before = {"same": STOPPED, "gone": STOPPED, "up": STOPPED, "worse": RUNNING}
    after = {"same": STOPPED, "new": STOPPED, "up": RUNNING, "worse": DEGRADED}
    assert [
        (change.name, change.before, change.after, change.reason) for change in changes(before, after, CREATED)
    ] == [
        ("gone", State.STOPPED, None, ""),
        ("new", None, State.STOPPED, ""),
        ("up", State.STOPPED, State.RUNNING, ""),
        ("worse", State.RUNNING, State.DEGRADED, "why"),
    ]
