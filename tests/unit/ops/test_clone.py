"""Which machines can be cloned."""

from __future__ import annotations

import re

import pytest

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.ops.clone import check_clonable
from tests.support.builders import make_config


@pytest.mark.parametrize("arch", [Arch.X86_64, Arch.AARCH64])
def test_guest_whose_firmware_passes_tables_on_can_be_cloned(arch: Arch) -> None:
    check_clonable(make_config(arch=arch, provisioned=True))


@pytest.mark.parametrize("arch", [Arch.RISCV64, Arch.S390X, Arch.PPC64LE])
def test_other_guests_can_be_cloned_before_their_first_boot_alone(arch: Arch) -> None:
    check_clonable(make_config(arch=arch))
    line = (
        f'unable to clone "box": a guest of {arch} that has booted cannot be given keys of its own; '
        "only guests of x86_64, aarch64 can"
    )
    with pytest.raises(MachineError) as refused:
        check_clonable(make_config(arch=arch, provisioned=True))
    assert refused.value.line == line


def test_clone_that_has_no_identity_yet_has_none_to_be_taken() -> None:
    with pytest.raises(MachineError, match=re.escape("it is itself a clone that has not been started")):
        check_clonable(make_config(provisioned=True, identity_pending=True))
