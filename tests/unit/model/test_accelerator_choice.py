"""MACHINE_ACCEL."""

from __future__ import annotations

import pytest

from machine.errors import MachineError
from machine.model.host import AcceleratorChoice


@pytest.mark.parametrize(
    ("environment", "choice"),
    [
        ({}, None),
        ({"MACHINE_ACCEL": ""}, None),
        ({"MACHINE_ACCEL": "tcg"}, AcceleratorChoice.TCG),
        ({"MACHINE_ACCEL": "auto"}, AcceleratorChoice.AUTO),
    ],
)
def test_choice_of_the_environment(environment: dict[str, str], choice: AcceleratorChoice | None) -> None:
    assert AcceleratorChoice.from_environment(environment) is choice


def test_environment_with_nonsense_is_refused() -> None:
    with pytest.raises(MachineError) as caught:
        AcceleratorChoice.from_environment({"MACHINE_ACCEL": "warp"})
    assert caught.value.line == 'MACHINE_ACCEL="warp" is not an accelerator; choose one of: auto, kvm, hvf, tcg'
