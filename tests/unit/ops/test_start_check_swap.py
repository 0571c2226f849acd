"""What a start says of the swap of its guest."""

from __future__ import annotations

from machine.ops.start_check_swap import GENERATOR, swap_notice

NO_SWAP = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ZRAM = f"{NO_SWAP}/dev/zram0                              partition\t262140\t\t0\t\t100\n"
DISK = f"{NO_SWAP}/dev/vda2                               partition\t262140\t\t0\t\t-2\n"


def test_guest_that_has_the_device_is_as_promised() -> None:
    assert swap_notice("box", f"{ZRAM}{GENERATOR}\n") is None


def test_guest_without_a_generator_is_told_which_package_to_install() -> None:
    for swaps in (NO_SWAP, DISK):
        assert swap_notice("box", swaps) == (
            "The guest has no swap: it lacks the zram generator that --swap needs. Install the package zram-generator "
            "(Fedora) or systemd-zram-generator (Debian, Ubuntu) in it, then use: machine restart box"
        )


def test_generator_that_failed_is_told_with_the_unit_to_look_at() -> None:
    assert swap_notice("box", f"{NO_SWAP}{GENERATOR}\n") == (
        "The guest has no swap: its zram generator failed. To see why, use: machine ssh box systemctl status "
        "systemd-zram-setup@zram0"
    )
