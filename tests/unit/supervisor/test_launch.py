"""What a start says before QEMU runs."""

from __future__ import annotations

from pathlib import Path

from machine.supervisor.launch import low_space_notice
from machine.supervisor.qmp import MIN_FREE_BYTES


def test_start_says_that_the_disk_is_almost_full() -> None:
    assert low_space_notice(Path("/m/box"), MIN_FREE_BYTES) is None
    assert low_space_notice(Path("/m/box"), 512 * 1024) == (
        "Only 512KiB are free on the disk that holds /m/box; when it is full, the guest is paused"
    )
