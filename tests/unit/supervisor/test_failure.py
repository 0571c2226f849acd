"""What is said of a start that has failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.model.arch import Arch
from machine.model.host import AcceleratorChoice, HostOS
from machine.model.record import GuestFacts
from machine.qemu.accelerator import MacFacts, choose_accelerator, hvf_support
from machine.supervisor.failure import start_error
from machine.supervisor.phases import Phase
from tests.support.builders import make_host, make_paths, make_qemu, make_record

HYPERVISOR = "QEMU 11.1.0 on macOS 26 (Darwin 25.1.0)"


def hint(tmp_path: Path, phase: Phase, console: str, hypervisor: str | None) -> str | None:
    paths = make_paths(tmp_path)
    paths.directory.mkdir(parents=True)
    paths.serial_log.write_text(console)
    record = make_record("box", guest=GuestFacts(provisioned=True))
    return start_error(record, paths, phase, "timed out", hypervisor=hypervisor).hint


@pytest.mark.parametrize(
    ("phase", "console", "stage"),
    [
        (Phase.LAUNCH, "", "firmware"),
        (Phase.BOOT, "UEFI firmware (version 1)\n", "firmware"),
        (Phase.BOOT, "EFI stub: Exiting boot services...\n", "boot loader"),
        (Phase.BOOT, "[    0.000000] Linux version 6.12\n", None),
        (Phase.SSH, "", None),
    ],
)
def test_guest_that_does_not_reach_its_kernel_with_hvf_points_to_versions(
    phase: Phase, console: str, stage: str | None, tmp_path: Path
) -> None:
    said = hint(tmp_path, phase, console, HYPERVISOR)
    assert said == (stage and _hint_of(stage))


def _hint_of(stage: str) -> str:
    return (
        f"the guest came only as far as its {stage}; guests do so in some pairs of versions of QEMU and macOS, here "
        f"{HYPERVISOR}: use another version of QEMU, or emulate the guest: MACHINE_ACCEL=tcg machine start box"
    )


def test_kvm_and_emulation_are_not_blamed(tmp_path: Path) -> None:
    assert hint(tmp_path, Phase.BOOT, "EFI stub: Exiting boot services...\n", None) is None


@pytest.mark.parametrize(
    ("kernel", "system"),
    [
        ((25, 1, 0), "macOS 26 (Darwin 25.1.0)"),
        ((24, 6, 0), "macOS 15 (Darwin 24.6.0)"),
        ((20, 6), "macOS 11 (Darwin 20.6)"),
    ],
)
def test_versions_are_those_of_qemu_and_macos(kernel: tuple[int, ...], system: str) -> None:
    mac = make_host(HostOS.MACOS, "arm64", kernel=kernel)
    qemu = make_qemu(version=(11, 1, 0))
    support = hvf_support(MacFacts(sysctl={"kern.hv_support": "1"}, entitlements=None), qemu, mac)
    chosen = choose_accelerator(AcceleratorChoice.AUTO, Arch.AARCH64, mac, support, qemu)
    assert chosen.hypervisor == f"QEMU 11.1.0 on {system}"
    emulated = choose_accelerator(AcceleratorChoice.TCG, Arch.AARCH64, mac, support, qemu)
    assert emulated.hypervisor is None
