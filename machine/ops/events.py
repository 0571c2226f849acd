"""`machine events`: report the changes of machines' states as they happen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from machine.model.state import MachineState, State
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.store.names import machine_names

_POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a machine's state. The state is None before the machine is made and after it is removed."""

    moment: datetime
    name: str
    before: State | None
    after: State | None
    reason: str | None


def follow(context: Context) -> Iterator[Change]:
    """Yield the changes of machines' states from now on. A state that lasts less than half a second may be missed."""
    before = _states(context)
    while True:
        time.sleep(_POLL_S)
        after = _states(context)
        yield from changes(before, after, datetime.now(UTC))
        before = after


def changes(
    before: Mapping[str, MachineState], after: Mapping[str, MachineState], moment: datetime
) -> Iterator[Change]:
    """Yield the differences between the machines' states `before` and `after`, sorted by machine name."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield Change(
                moment=moment,
                name=name,
                before=old.state if old else None,
                after=new.state if new else None,
                reason=new.reason if new else None,
            )


def _states(context: Context) -> dict[str, MachineState]:
    return {name: machine_state(context.roots.machine(name)) for name in machine_names(context.roots)}
