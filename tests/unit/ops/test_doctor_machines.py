"""What doctor says of settings and machines, on made-up hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.config import Resources
from machine.model.settings import BUILT_IN, EffectiveSetting
from machine.model.state import ORPHANED, STOPPED, UNRESPONSIVE, MachineState, State
from machine.ops import doctor_machines as checks
from machine.ops.doctor_machines import MachineFacts
from tests.support.builders import make_host
from tests.support.checks import text_of
from tests.support.golden import Golden


def test_settings_name_their_sources(golden: Golden) -> None:
    memory = EffectiveSetting(key="memory", value=2048, origin=BUILT_IN)
    cpus = EffectiveSetting(key="cpus", value=2, origin="config.toml: /c/config.toml")
    golden.matches(text_of(checks.settings_check({"memory": memory})), "built in")
    golden.matches(text_of(checks.settings_check({"memory": memory, "cpus": cpus})), "of a file")


@pytest.mark.parametrize("available", [None, 2048, 2047])
def test_memory_that_is_available_now(available: int | None, golden: Golden) -> None:
    resources = Resources(cpus=2, memory_mib=2048, disk_gib=100)
    golden.matches(text_of(checks.resources_check(resources, make_host(cpus=4, memory_mib=8192), available)))


BOX = MachineFacts(
    name="box",
    state=STOPPED,
    log=Path("/m/box/supervisor.log"),
    has_disk=True,
    base=None,
    has_changed_base=False,
    refetch="fcos:stable@43.1",
)


PROBLEMS: dict[str, dict[str, object]] = {
    "supervisor has ended": {"state": ORPHANED},
    "supervisor is silent": {"state": UNRESPONSIVE},
    "degraded otherwise": {"state": MachineState(state=State.DEGRADED, reason="no API", remedy="machine ssh box")},
    "degraded under an older version": {"state": MachineState(state=State.DEGRADED, reason="no API")},
    "paused by somebody": {"state": MachineState(state=State.PAUSED)},
    "paused by a full disk": {
        "state": MachineState(state=State.PAUSED, reason="the host's disk is full", remedy="free space on this host")
    },
    "base image is missing": {"base": Path("/c/image.qcow2")},
    "base image has changed": {"has_changed_base": True},
    "disk is missing": {"has_disk": False},
}


@pytest.mark.parametrize("changes", PROBLEMS.values(), ids=PROBLEMS)
def test_machine_with_a_problem(changes: dict[str, object], golden: Golden) -> None:
    golden.matches(text_of(*checks.machine_checks([BOX, replace(BOX, **changes)], {})))  # type: ignore[arg-type]


def test_machine_with_a_damaged_record() -> None:
    error = MachineError("the record is damaged", hint="machine rm --force bad")
    (check,) = checks.machine_checks([BOX], {"bad": error})
    assert text_of(check) == "machine bad: warning: the record is damaged\n  -> machine rm --force bad"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_machines_without_a_problem_have_one_line(count: int, golden: Golden) -> None:
    golden.matches(text_of(*checks.machine_checks([BOX] * count, {})))


def test_drafts(golden: Golden) -> None:
    golden.matches(text_of(checks.drafts_check([])), "none")
    golden.matches(text_of(checks.drafts_check([Path("/m/.box.x.tmp")])), "one")


AUTOSTARTS: dict[str, tuple[dict[str, str | None], set[str | None], bool]] = {
    "none": ({}, set(), False),
    "at login": ({"box": "/m"}, set(), False),
    "at boot": ({"b": "/m", "a": "/m"}, set(), True),
    "program is gone": ({"a": "/m", "box": "/old/machine"}, {"/old/machine"}, True),
    "no program": ({"box": None}, {None}, False),
}


@pytest.mark.parametrize(("services", "missing", "lingers"), AUTOSTARTS.values(), ids=AUTOSTARTS)
def test_autostart(services: dict[str, str | None], missing: set[str | None], lingers: bool, golden: Golden) -> None:
    golden.matches(text_of(checks.autostart_check(services, missing, lingers=lingers)))
