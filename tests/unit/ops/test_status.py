"""What machines are said to do: once, and from one look to the next."""

from __future__ import annotations

from pathlib import Path

from machine import lock
from machine.model.state import STOPPED, MachineState, State
from machine.ops.events import changes
from machine.ops.status import status
from tests.support.builders import CREATED, make_context, make_record, save_machine

RUNNING = MachineState(state=State.RUNNING)
DEGRADED = MachineState(state=State.DEGRADED, reason="why")


def test_changes_are_told_by_name() -> None:
    before = {"same": STOPPED, "gone": STOPPED, "up": STOPPED, "worse": RUNNING}
    after = {"same": STOPPED, "new": STOPPED, "up": RUNNING, "worse": DEGRADED}
    assert [
        (change.name, change.before, change.after, change.reason) for change in changes(before, after, CREATED)
    ] == [
        ("gone", State.STOPPED, None, None),
        ("new", None, State.STOPPED, None),
        ("up", State.STOPPED, State.RUNNING, None),
        ("worse", State.RUNNING, State.DEGRADED, "why"),
    ]


def test_command_that_changes_a_stopped_machine_does_not_start_it(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    paths = save_machine(context.roots, make_record())
    with lock.held(paths.lock) as free:
        assert free
        assert status("box", context) == STOPPED
