"""The table of faults: what may go wrong with a machine, and how it comes back with nothing lost."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.faults.fault import Fault
from tests.support.faults.rig import Rig
from tests.support.faults.table import FAULTS
from tests.support.faults.trial import attempt
from tests.support.guest_machines import MainMachine
from tests.support.world import World


@pytest.fixture(scope="module")
def rig(world: World, main_machine: MainMachine) -> Iterator[Rig]:
    """The main machine, which returns to a snapshot after each fault."""
    main_machine.import_busybox()
    made = Rig(world=world)
    made.prepare()
    yield made
    made.tidy()


ROWS = [pytest.param(fault, id=fault.name, marks=[pytest.mark.long] if fault.is_long else []) for fault in FAULTS]


@pytest.mark.parametrize("fault", ROWS)
def test_machine_comes_back_with_nothing_lost(rig: Rig, fault: Fault) -> None:
    if fault.fills_disk and os.getuid() != 0:
        pytest.skip("a disk that may be filled has to be mounted")
    verdict = attempt(fault, rig)
    assert verdict.holds, verdict
