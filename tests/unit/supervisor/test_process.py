"""What a supervisor is to do when it starts a machine or takes one over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from machine.model.hardware import Hardware
from machine.model.host import Accelerator
from machine.model.record import MachineRecord
from machine.qemu.plan import LaunchPlan
from machine.supervisor import launch, process, reach
from machine.supervisor.handover import Handover
from machine.supervisor.progress import ProgressBroadcaster
from tests.support.builders import make_record, make_remote_config, make_roots, save_machine

HARDWARE = Hardware(
    accelerator=Accelerator.TCG, cpu="max", first_boot=False, rekey=False, folder_slots=0, shared_memory=False
)


@pytest.mark.parametrize("adopts", [False, True])
@pytest.mark.parametrize(("environment", "patience"), [({}, 3), ({"MACHINE_PATIENCE": "7"}, 7)])
def test_users_patience_reaches_the_supervisor_and_what_it_launches(
    adopts: bool, environment: dict[str, str], patience: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def prepare(*_: Any, patience: int, **__: Any) -> launch.Launch:
        given.append(patience)
        return launch.Launch(
            record=record,
            plan=LaunchPlan(argv=("qemu",), accelerator=Accelerator.KVM),
            folders=(),
            base=None,
            hardware=HARDWARE,
            hypervisor=None,
        )

    monkeypatch.delenv("MACHINE_PATIENCE", raising=False)
    for key, text in environment.items():
        monkeypatch.setenv(key, text)
    monkeypatch.setattr(launch, "prepare", prepare)
    roots, record = make_roots(tmp_path), make_record()
    save_machine(roots, record)
    roots.settings.parent.mkdir(parents=True, exist_ok=True)
    roots.settings.write_text("patience = 3")
    assignment = process._prepare(roots, "box", None if adopts else 0, ProgressBroadcaster(), Handover())
    assert assignment.patience == patience
    assert assignment.time_scale == patience * (10 if adopts else 1)
    assert given == ([] if adopts else [patience])


def test_users_patience_reaches_the_supervisor_of_a_remote_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACHINE_PATIENCE", "7")
    monkeypatch.setattr(reach, "prepare", lambda *_: [])
    roots, config = make_roots(tmp_path), make_remote_config()
    save_machine(roots, MachineRecord(config=config))
    assert process._prepare(roots, config.name, 0, ProgressBroadcaster(), Handover()).patience == 7
