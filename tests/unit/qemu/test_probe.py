"""Questions to this host, put to made-up devices and files."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.host import Host, HostOS, Installer
from machine.model.obstacle import Obstacle
from machine.qemu.probe import (
    _kvm_obstacle,
    cpu_name,
    find_qemu,
    has_virtualization_flag,
    parse_entitlements,
    parse_listing,
)
from machine.runner import Completed
from tests.support.builders import make_host


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


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Xeon 8\n\nprocessor\t: 1\nmodel name\t: Xeon 8\n", "Xeon 8"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n", "0x41 0x3 0xd0c"),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
        ("model name\t:\n", None),
        ("", None),
    ],
)
def test_name_of_the_cpu_is_that_of_the_first(cpuinfo: str, name: str | None) -> None:
    assert cpu_name(cpuinfo) == name


def test_missing_kvm_device_is_an_obstacle_with_its_reason(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    obstacle = _kvm_obstacle("x86_64", os.fspath(device))
    assert obstacle is not None
    assert obstacle.reason == f"{device} cannot be opened: No such file or directory"
    assert "enable virtualization" in str(obstacle.remedy)


def test_kvm_device_that_is_a_plain_file_makes_no_virtual_machine(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    assert _kvm_obstacle("x86_64", os.fspath(device)) == Obstacle(
        reason=f"{device} cannot create a virtual machine: Inappropriate ioctl for device",
        remedy="stop other hypervisors on this host, such as VirtualBox",
    )


@pytest.mark.parametrize(
    ("arch", "host", "hint"),
    [
        (Arch.X86_64, make_host(), "install it with: sudo apt install qemu-system-x86"),
        (Arch.AARCH64, make_host(), "install it with: sudo apt install qemu-system-arm"),
        (Arch.AARCH64, make_host(installer=Installer.DNF), "install it with: sudo dnf install qemu-system-aarch64"),
        (Arch.RISCV64, make_host(installer=Installer.PACMAN), "install it with: sudo pacman -S qemu-system-riscv"),
        (Arch.S390X, make_host(installer=Installer.ZYPPER), "install it with: sudo zypper install qemu-s390x"),
        (Arch.AARCH64, make_host(HostOS.MACOS, "arm64"), "install it with: brew install qemu"),
        (Arch.X86_64, make_host(installer=None), "install QEMU's system emulators"),
    ],
)
def test_missing_qemu_is_told_with_what_to_install(
    arch: Arch, host: Host, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MachineError) as caught:
        find_qemu(arch, host)
    assert caught.value.line == f"qemu-system-{arch} is not installed on this host; {hint}"


def test_power_runs_in_the_qemu_of_both_byte_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MachineError, match=r"^qemu-system-ppc64 is not installed"):
        find_qemu(Arch.PPC64LE, make_host())


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "entitlements"),
    [
        (0, "<plist/>\n", "Executable=/opt/homebrew/bin/qemu-system-aarch64", "<plist/>"),
        (0, "", "", ""),
        (1, "", "/usr/local/bin/qemu-system-x86_64: code object is not signed at all", ""),
        # An old macOS; what cannot be known keeps nobody from trying.
        (2, "", "codesign: unrecognized option `--xml'\nUsage: codesign -s identity", None),
    ],
)
def test_entitlements_as_codesign_tells_them(status: int, stdout: str, stderr: str, entitlements: str | None) -> None:
    assert parse_entitlements(Completed(returncode=status, stdout=stdout, stderr=stderr)) == entitlements


def test_listing_begins_below_its_heading() -> None:
    assert parse_listing("Accelerators supported in QEMU binary:\ntcg\nkvm\n") == {"tcg", "kvm"}
    assert parse_listing("") == set()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("flags", "mode", "remedy"),
    [
        ("flags : vmx", 0o660, 'join the group disk (sudo usermod -aG disk "$USER") and log in again'),
        ("flags : vmx", 0o600, "let other users open it, with: sudo chmod 666 {device}"),
        ("flags : fpu", 0o660, "enable virtualization"),
    ],
)
def test_permission_is_advised_only_where_the_cpu_has_virtualization(
    flags: str, mode: int, remedy: str, short_path: Path
) -> None:
    short_path.chmod(0o755)
    device, cpuinfo = short_path / "kvm", short_path / "cpuinfo"
    cpuinfo.write_text(flags)
    device.touch()
    device.chmod(mode)
    os.chown(device, 0, grp.getgrnam("disk").gr_gid)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        obstacle = _kvm_obstacle("x86_64", os.fspath(device), os.fspath(cpuinfo))
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert obstacle is not None
    assert str(obstacle.remedy).startswith(remedy.format(device=device))
