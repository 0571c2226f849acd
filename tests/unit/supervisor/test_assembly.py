"""How much longer than usual a supervisor waits for its guest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from machine.model.host import Accelerator
from machine.model.ports import Driver
from machine.ports.limits import DEFAULT_LIMITS
from machine.qemu.plan import LaunchPlan
from machine.supervisor.assignment import Assignment
from tests.support.builders import make_paths, make_record

ADOPTED = Assignment(
    record=make_record(),
    paths=make_paths(Path("/m")),
    plan=None,
    lock=None,
    tcp_driver=Driver.SLIRP,
    publish_limits=DEFAULT_LIMITS,
    patience=1,
)


@pytest.mark.parametrize(
    ("accelerator", "patience", "time_scale"),
    [
        (Accelerator.KVM, 1, 1),
        (Accelerator.HVF, 5, 5),
        (Accelerator.TCG, 1, 10),
        (Accelerator.TCG, 5, 50),
        (None, 5, 50),
    ],
)
def test_patience_lengthens_what_an_emulated_guest_has_anyway(
    accelerator: Accelerator | None, patience: int, time_scale: int
) -> None:
    plan = LaunchPlan(argv=("qemu",), accelerator=accelerator) if accelerator else None
    assert replace(ADOPTED, plan=plan, patience=patience).time_scale == time_scale
