"""Which machines `machine up --prune` removes."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.model.record import MachineRecord
from machine.ops.clone import _cloned
from machine.ops.init_file import TomlFile
from machine.ops.rename import _renamed
from machine.ops.up_file import parse_tables
from machine.ops.up_plan import Action
from machine.ops.up_prune import left_over, plan_prune
from machine.report import SilentReporter
from tests.support.builders import make_context, make_record, make_remote_config, save_machine

TOML = TomlFile(document={"machine": {"box": {}}}, shown_path="machines.toml", base=Path("/p"))
OURS = "/p/machines.toml"
FILE = parse_tables(TOML, OURS)


def test_only_machines_that_this_file_has_made_are_removed() -> None:
    machines = [
        make_record("box", machines_file=OURS),
        make_record("old", machines_file=OURS),
        make_record("by-init"),
        make_record("other", machines_file="/q/machines.toml"),
    ]
    assert [record.name for record in left_over(FILE, machines)] == ["old"]


def test_host_over_ssh_is_forgotten(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    save_machine(context.roots, MachineRecord(config=make_remote_config(machines_file=OURS)))
    save_machine(context.roots, make_record("old", machines_file=OURS))
    plans = plan_prune(FILE, context, SilentReporter())
    assert {plan.name: plan.action for plan in plans} == {"far": Action.FORGET, "old": Action.REMOVE}


def test_clones_and_renamed_machines_are_the_users_own() -> None:
    made = make_record("box", machines_file=OURS)
    assert left_over(FILE, [_cloned(made, "copy"), _renamed(made, "box", "mine")]) == []


def test_standard_input_has_made_no_machines(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"^--prune needs a file"):
        plan_prune(parse_tables(TOML, None), make_context(tmp_path), SilentReporter())
