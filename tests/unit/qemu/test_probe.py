"""What runs the guest's code, decided from values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.qemu.probe import (
    HardwareHelp,
    _kvm_obstacle,
    choose_accelerator,
    find_qemu,
    has_virtualization_flag,
    hvf_obstacle,
    parse_listing,
    parse_version,
)
from tests.builders import make_host

LINUX = make_host()
LINUX_ARM = make_host(machine="aarch64")
LINUX_RISC = make_host(machine="riscv64")
MAC = make_host(HostOS.MACOS, "arm64")
INTEL_MAC = make_host(HostOS.MACOS, "x86_64")

KVM = HardwareHelp(accelerator=Accelerator.KVM, obstacle="")
NO_KVM = HardwareHelp(accelerator=Accelerator.KVM, obstacle="/dev/kvm cannot be opened: No such file or directory")
HVF = HardwareHelp(accelerator=Accelerator.HVF, obstacle="")

SLOW = "No hardware acceleration ({}): the guest is emulated and about ten times slower"

AUTO = AcceleratorChoice.AUTO


@pytest.mark.parametrize(
    ("choice", "arch", "host", "help_", "accelerator", "obstacle"),
    [
        (AUTO, Arch.X86_64, LINUX, KVM, Accelerator.KVM, None),
        (AUTO, Arch.X86_64, LINUX, NO_KVM, Accelerator.TCG, NO_KVM.obstacle),
        (AUTO, Arch.AARCH64, LINUX, KVM, Accelerator.TCG, "the guest is aarch64 and the host x86_64"),
        (AUTO, Arch.AARCH64, LINUX_ARM, KVM, Accelerator.KVM, None),
        (AUTO, Arch.X86_64, LINUX_RISC, KVM, Accelerator.TCG, "the guest is x86_64 and the host riscv64"),
        (AUTO, Arch.AARCH64, MAC, HVF, Accelerator.HVF, None),
        (AUTO, Arch.X86_64, MAC, HVF, Accelerator.TCG, "the guest is x86_64 and the host arm64"),
        (AUTO, Arch.X86_64, INTEL_MAC, HVF, Accelerator.HVF, None),
        (AcceleratorChoice.TCG, Arch.X86_64, LINUX, KVM, Accelerator.TCG, None),
        (AcceleratorChoice.KVM, Arch.X86_64, LINUX, KVM, Accelerator.KVM, None),
        (AcceleratorChoice.HVF, Arch.AARCH64, MAC, HVF, Accelerator.HVF, None),
    ],
)
def test_accelerator_and_notice(
    choice: AcceleratorChoice,
    arch: Arch,
    host: Host,
    help_: HardwareHelp,
    accelerator: Accelerator,
    obstacle: str | None,
) -> None:
    chosen = choose_accelerator(choice, arch, host, help_)
    assert chosen.accelerator is accelerator
    assert chosen.notice == ("" if obstacle is None else SLOW.format(obstacle))


@pytest.mark.parametrize(
    ("choice", "arch", "host", "help_", "message"),
    [
        (AcceleratorChoice.KVM, Arch.X86_64, LINUX, NO_KVM, NO_KVM.obstacle),
        (AcceleratorChoice.KVM, Arch.AARCH64, LINUX, KVM, "the guest is aarch64 and the host x86_64"),
        (AcceleratorChoice.HVF, Arch.X86_64, LINUX, KVM, "linux has no hvf"),
        (AcceleratorChoice.KVM, Arch.AARCH64, MAC, HVF, "darwin has no kvm"),
    ],
)
def test_accelerator_that_was_asked_for_by_name_is_never_replaced(
    choice: AcceleratorChoice, arch: Arch, host: Host, help_: HardwareHelp, message: str
) -> None:
    with pytest.raises(MachineError) as caught:
        choose_accelerator(choice, arch, host, help_)
    assert caught.value.line == f"cannot use {choice} for this machine: {message}; use --accel auto or tcg"


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        ("processor\t: 0\nflags\t\t: fpu vme vmx ssse3\n", True),
        ("processor\t: 0\nflags\t\t: fpu svm\nprocessor\t: 1\nflags\t\t: fpu svm\n", True),
        ("processor\t: 0\nflags\t\t: fpu vmx_like svme\nvmx flags\t: vnmi\n", False),
        ("model name\t: vmx\nflags\t\t: fpu\n", False),
        ("", False),
    ],
)
def test_virtualization_flag_is_a_whole_word_of_the_flags(cpuinfo: str, found: bool) -> None:
    assert has_virtualization_flag(cpuinfo) is found


def test_missing_kvm_device_is_an_obstacle_with_its_reason(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    obstacle, remedy = _kvm_obstacle("x86_64", os.fspath(device))
    assert obstacle == f"{device} cannot be opened: No such file or directory"
    assert "enable virtualization" in remedy


def test_kvm_device_that_is_a_plain_file_makes_no_virtual_machine(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    obstacle, remedy = _kvm_obstacle("x86_64", os.fspath(device))
    assert obstacle == f"{device} makes no virtual machine: Inappropriate ioctl for device"
    assert remedy == "stop other hypervisors on this host, such as VirtualBox"


@pytest.mark.parametrize(
    ("arch", "host_os", "command"),
    [
        (Arch.X86_64, HostOS.LINUX, "apt install qemu-system-x86"),
        (Arch.AARCH64, HostOS.LINUX, "apt install qemu-system-arm"),
        (Arch.AARCH64, HostOS.MACOS, "brew install qemu"),
    ],
)
def test_missing_qemu_is_told_with_what_to_install(
    arch: Arch, host_os: HostOS, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MachineError) as caught:
        find_qemu(arch, host_os)
    assert caught.value.line == (
        f"qemu-system-{arch} is not installed on this host; install it, on this host perhaps with: {command}"
    )


SIGNED = "<dict><key>com.apple.security.hypervisor</key><true/></dict>"


@pytest.mark.parametrize(
    ("hv_support", "entitlements", "obstacle", "remedy"),
    [
        ("1\n", SIGNED, "", ""),
        ("1\n", None, "", ""),
        (
            "1\n",
            "<dict></dict>",
            "QEMU is not signed with the entitlement com.apple.security.hypervisor",
            "brew reinstall qemu",
        ),
        (
            "0\n",
            SIGNED,
            "this Mac has no Hypervisor.framework (kern.hv_support is 0)",
            "where this Mac is itself a guest, its host has to allow nested virtualization",
        ),
        (
            "",
            SIGNED,
            "this Mac has no Hypervisor.framework (kern.hv_support is not known)",
            "where this Mac is itself a guest, its host has to allow nested virtualization",
        ),
    ],
)
def test_hypervisor_framework(hv_support: str, entitlements: str | None, obstacle: str, remedy: str) -> None:
    assert hvf_obstacle(hv_support, entitlements) == (obstacle, remedy)


@pytest.mark.parametrize(
    ("text", "version"),
    [("7.2.22", (7, 2)), ("10.0.0-rc1", (10, 0)), ("9.1", (9, 1)), ("", None), ("v9.1", None), ("9", None)],
)
def test_version_has_two_numbers(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


def test_listing_begins_below_its_heading() -> None:
    assert parse_listing("Accelerators supported in QEMU binary:\ntcg\nkvm\n") == {"tcg", "kvm"}
    assert parse_listing("") == set()
