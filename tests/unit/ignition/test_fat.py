"""The seed disk's bytes; what the tools of FAT make of it is in tests/integration."""

from __future__ import annotations

import pytest

from machine.errors import MachineError
from machine.ignition.fat import fat_image, fat_size


def test_same_files_make_the_same_disk() -> None:
    assert fat_image("CIDATA", {"a": "x"}) == fat_image("CIDATA", {"a": "x"})
    assert fat_image("CIDATA", {"a": "x"}) != fat_image("CIDATA", {"a": "y"})


def test_disk_is_as_full_as_it_can_be_and_not_fuller() -> None:
    whole = 8 * 1024**2
    assert len(fat_image("CIDATA", {"a": "x" * (whole - 512), "b": "x"})) == fat_size()
    with pytest.raises(MachineError) as caught:
        fat_image("CIDATA", {"a": "x" * whole, "b": "x"})
    assert caught.value.line == "the files for the guest's first boot are larger than 8 MiB"
