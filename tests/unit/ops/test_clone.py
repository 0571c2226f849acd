"""Which machines can be cloned."""

from __future__ import annotations

import re

import pytest

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.record import GuestFacts, Pending
from machine.ops.clone import check_clonable
from tests.support.builders import make_record


@pytest.mark.parametrize("arch", [Arch.X86_64, Arch.AARCH64])
def test_guest_whose_firmware_passes_tables_on_can_be_cloned(arch: Arch) -> None:
    check_clonable(make_record(arch=arch, guest=GuestFacts(provisioned=True)))


@pytest.mark.parametrize("arch", [Arch.RISCV64, Arch.S390X, Arch.PPC64LE])
def test_other_guests_can_be_cloned_before_their_first_boot_alone(arch: Arch) -> None:
    check_clonable(make_record(arch=arch))
    line = (
        f'unable to clone "box": guests of {arch} cannot be given new keys after their first boot; '
        "only machines of x86_64, aarch64 can be cloned after their first boot"
    )
    with pytest.raises(MachineError) as refused:
        check_clonable(make_record(arch=arch, guest=GuestFacts(provisioned=True)))
    assert refused.value.line == line


def test_clone_that_was_not_rekeyed_yet_cannot_be_cloned() -> None:
    with pytest.raises(MachineError, match=re.escape("it is a clone that has never been started")):
        check_clonable(make_record(guest=GuestFacts(provisioned=True), pending=Pending(rekey=True)))
