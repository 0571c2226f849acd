"""MACHINE_ACCEL overrules what a machine was made with."""

from __future__ import annotations

import pytest

from machine.errors import MachineError
from machine.model.host import AcceleratorChoice
from machine.qemu.probe import accelerator_choice


@pytest.mark.parametrize(
    ("environment", "choice"),
    [
        ({}, AcceleratorChoice.KVM),
        ({"MACHINE_ACCEL": ""}, AcceleratorChoice.KVM),
        ({"MACHINE_ACCEL": "tcg"}, AcceleratorChoice.TCG),
        ({"MACHINE_ACCEL": "auto"}, AcceleratorChoice.AUTO),
    ],
)
def test_environment_overrules_the_record(environment: dict[str, str], choice: AcceleratorChoice) -> None:
    assert accelerator_choice(AcceleratorChoice.KVM, environment) is choice


def test_environment_with_nonsense_is_refused() -> None:
    with pytest.raises(MachineError) as caught:
        accelerator_choice(AcceleratorChoice.KVM, {"MACHINE_ACCEL": "warp"})
    assert caught.value.line == 'MACHINE_ACCEL="warp" is no accelerator; choose one of: auto, kvm, hvf, tcg'
