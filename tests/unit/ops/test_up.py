"""How many machines `machine up` starts at a time, virtual ones and hosts over SSH."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from machine.ops.up import pace_of
from machine.ops.up_plan import Pace
from tests.support.builders import make_config, make_context, make_remote_config

FAR = [replace(make_remote_config(), name=f"far{number}") for number in range(12)]
NEAR = [make_config(f"near{number}", cpus=3, memory_mib=512) for number in range(2)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], Pace(at_once=0)),
        ([far.name for far in FAR], Pace(at_once=0, hosts=12)),
        (["near0", "far0", "far1"], Pace(at_once=1, hosts=2)),
        (["near0", "far0", "near1"], Pace(at_once=1, hosts=1)),
    ],
)
def test_hosts_over_ssh_start_all_at_once_besides_the_virtual_machines(
    names: list[str], expected: Pace, tmp_path: Path
) -> None:
    assert pace_of(names, [*FAR, *NEAR], make_context(tmp_path)) == expected
