"""What runs the guest's code, and in which QEMU, decided from values: no Mac is needed to know what happens on one."""

from __future__ import annotations

import pytest

from machine.errors import MachineError, Page
from machine.model.arch import Arch
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS, Installer
from machine.model.obstacle import Obstacle
from machine.qemu.accelerator import (
    HardwareSupport,
    MacFacts,
    check_qemu,
    choose_accelerator,
    early_notice,
    hvf_support,
    max_memory_mib,
)
from machine.qemu.boards import BOARDS
from tests.support.builders import make_host, make_qemu

LINUX = make_host()
LINUX_ARM = make_host(machine="aarch64")
LINUX_RISC = make_host(machine="riscv64")
MAC = make_host(HostOS.MACOS, "arm64")
INTEL_MAC = make_host(HostOS.MACOS, "x86_64")

KVM = HardwareSupport(accelerator=Accelerator.KVM, obstacle=None)
NO_DEVICE = "/dev/kvm cannot be opened: No such file or directory"
NO_KVM = HardwareSupport(accelerator=Accelerator.KVM, obstacle=Obstacle(reason=NO_DEVICE))
CURABLE = HardwareSupport(accelerator=Accelerator.KVM, obstacle=Obstacle(reason=NO_DEVICE, remedy="enable it"))
HVF = HardwareSupport(accelerator=Accelerator.HVF, obstacle=None)

SLOW = "No hardware acceleration ({}): the guest is emulated and {} times slower"

AUTO = AcceleratorChoice.AUTO
NOT_NOW = f"kvm cannot be used now ({NO_DEVICE}), so the machine will start only with MACHINE_ACCEL=tcg"


@pytest.mark.parametrize(
    ("choice", "arch", "host", "support", "accelerator", "obstacle"),
    [
        (AUTO, Arch.X86_64, LINUX, KVM, Accelerator.KVM, None),
        (AUTO, Arch.X86_64, LINUX, NO_KVM, Accelerator.TCG, NO_DEVICE),
        (AUTO, Arch.AARCH64, LINUX, KVM, Accelerator.TCG, "the guest is aarch64 and the host is x86_64"),
        (AUTO, Arch.AARCH64, LINUX_ARM, KVM, Accelerator.KVM, None),
        (AUTO, Arch.X86_64, LINUX_RISC, KVM, Accelerator.TCG, "the guest is x86_64 and the host is riscv64"),
        (AUTO, Arch.AARCH64, MAC, HVF, Accelerator.HVF, None),
        (AUTO, Arch.X86_64, MAC, HVF, Accelerator.TCG, "the guest is x86_64 and the host is arm64"),
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
    support: HardwareSupport,
    accelerator: Accelerator,
    obstacle: str | None,
) -> None:
    chosen = choose_accelerator(choice, arch, host, support, make_qemu())
    assert chosen.accelerator is accelerator
    speed = "about thirty" if obstacle and obstacle.startswith("the guest is") else "about twenty"
    assert chosen.notice == (None if obstacle is None else SLOW.format(obstacle, speed))
    assert chosen.first_notice == (chosen.notice and f"{chosen.notice}, so its first boot takes a minute or more")


@pytest.mark.parametrize(
    ("choice", "arch", "host", "support", "message"),
    [
        (AcceleratorChoice.KVM, Arch.X86_64, LINUX, NO_KVM, NO_DEVICE),
        (AcceleratorChoice.KVM, Arch.AARCH64, LINUX, KVM, "the guest is aarch64 and the host is x86_64"),
        (AcceleratorChoice.HVF, Arch.X86_64, LINUX, KVM, "linux has no hvf"),
        (AcceleratorChoice.KVM, Arch.AARCH64, MAC, HVF, "darwin has no kvm"),
    ],
)
def test_accelerator_that_was_asked_for_by_name_is_never_replaced(
    choice: AcceleratorChoice, arch: Arch, host: Host, support: HardwareSupport, message: str
) -> None:
    with pytest.raises(MachineError) as caught:
        choose_accelerator(choice, arch, host, support, make_qemu())
    assert caught.value.line == f"cannot use {choice} for this machine: {message}; use --accel auto or tcg"


@pytest.mark.parametrize(
    ("choice", "support", "notice"),
    [
        (AcceleratorChoice.KVM, KVM, None),
        (AcceleratorChoice.KVM, NO_KVM, NOT_NOW),
        (AcceleratorChoice.KVM, CURABLE, f"{NOT_NOW}; enable it"),
        (AUTO, NO_KVM, None),
        (AcceleratorChoice.TCG, NO_KVM, None),
    ],
)
def test_who_asks_by_name_is_told_early_what_a_start_would_be_refused_for(
    choice: AcceleratorChoice, support: HardwareSupport, notice: str | None
) -> None:
    assert early_notice(choice, support) == notice


@pytest.mark.parametrize(
    ("arch", "accelerator", "cpu"),
    [
        (Arch.X86_64, Accelerator.KVM, "host"),
        (Arch.X86_64, Accelerator.TCG, "max"),
        (Arch.X86_64, Accelerator.HVF, "host,-pdpe1gb,-avx512vl"),
        (Arch.AARCH64, Accelerator.HVF, "host"),
        (Arch.AARCH64, Accelerator.TCG, "max,pauth-impdef=on"),
    ],
)
def test_cpu_model(arch: Arch, accelerator: Accelerator, cpu: str) -> None:
    assert BOARDS[arch].cpu(accelerator) == cpu


def test_every_architecture_has_its_board_and_every_installer_its_packages() -> None:
    assert set(BOARDS) == set(Arch)
    for board in BOARDS.values():
        assert set(board.packages) == set(Installer)
        assert board.firmware is None or set(board.firmware.packages) == set(Installer)


# What QEMU lacks


def test_qemu_without_the_accelerator_leaves_the_guest_emulated_and_says_so() -> None:
    qemu = make_qemu("/opt/qemu", accelerators=frozenset({"tcg"}))
    chosen = choose_accelerator(AUTO, Arch.X86_64, LINUX, KVM, qemu)
    assert chosen.accelerator is Accelerator.TCG
    assert chosen.notice == SLOW.format("/opt/qemu was built without kvm", "about twenty")
    assert chosen.first_notice == (
        f"{chosen.notice}, so its first boot takes a minute or more; install a QEMU that has kvm"
    )
    assert chosen.obstacle == Obstacle(reason="/opt/qemu was built without kvm", remedy="install a QEMU that has kvm")
    with pytest.raises(MachineError) as caught:
        choose_accelerator(AcceleratorChoice.KVM, Arch.X86_64, LINUX, KVM, qemu)
    assert caught.value.line == (
        "cannot use kvm for this machine: /opt/qemu was built without kvm; "
        "use --accel auto or tcg, or: install a QEMU that has kvm"
    )
    assert caught.value.page is Page.KVM


def test_qemu_without_tcg_is_told_where_nothing_else_can_run_the_guest() -> None:
    qemu = make_qemu("/opt/qemu", accelerators=frozenset({"kvm"}))
    assert choose_accelerator(AUTO, Arch.X86_64, LINUX, KVM, qemu).accelerator is Accelerator.KVM
    with pytest.raises(MachineError) as caught:
        choose_accelerator(AUTO, Arch.AARCH64, LINUX, KVM, qemu)
    assert caught.value.line == (
        "/opt/qemu was built without tcg, and the guest is aarch64 and the host is x86_64; "
        "install it with: sudo apt install qemu-system-arm"
    )
    with pytest.raises(MachineError) as caught:
        choose_accelerator(AcceleratorChoice.TCG, Arch.X86_64, make_host(installer=None), KVM, qemu)
    assert caught.value.line == (
        "/opt/qemu was built without tcg; install a qemu-system-x86_64 that was built with tcg"
    )


@pytest.mark.parametrize(
    ("version", "arch", "least"),
    [
        ((6, 1, 1), Arch.X86_64, "6.2"),
        ((5,), Arch.AARCH64, "6.2"),
        ((8, 0, 5), Arch.RISCV64, "8.1"),
    ],
)
def test_old_qemu_is_refused_with_the_version_that_is_needed(version: tuple[int, ...], arch: Arch, least: str) -> None:
    with pytest.raises(MachineError) as caught:
        check_qemu(make_qemu("/q", version=version), arch, make_host(installer=Installer.BREW))
    dotted = ".".join(map(str, version))
    assert caught.value.line == (
        f"/q is QEMU {dotted}, but {arch} guests need {least} or newer; upgrade it with: brew upgrade qemu"
    )


@pytest.mark.parametrize(
    ("version", "arch"), [((6, 2), Arch.X86_64), ((6, 2, 0), Arch.PPC64LE), ((8, 1), Arch.RISCV64)]
)
def test_oldest_qemu_that_will_do_does(version: tuple[int, ...], arch: Arch) -> None:
    check_qemu(make_qemu(version=version), arch, LINUX)


def test_qemu_without_slirp_is_refused() -> None:
    with pytest.raises(MachineError) as caught:
        check_qemu(make_qemu("/q", networks=frozenset({"tap", "socket"})), Arch.X86_64, LINUX)
    assert caught.value.line == (
        "/q was built without slirp, which every machine needs; install it with: sudo apt install qemu-system-x86"
    )


# Macs

ENTITLED = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "https://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>com.apple.security.hypervisor</key><true/></dict></plist>
"""
SUPPORTED = {"kern.hv_support": "1"}
NESTED = "if this Mac is a virtual machine, enable nested virtualization on its host"


@pytest.mark.parametrize(
    ("facts", "version", "host", "reason", "remedy"),
    [
        (MacFacts(sysctl=SUPPORTED, entitlements=ENTITLED), (8, 2, 1), MAC, None, None),
        (MacFacts(sysctl=SUPPORTED, entitlements=ENTITLED), (7, 0, 0), INTEL_MAC, None, None),
        (MacFacts(sysctl=SUPPORTED, entitlements=None), (9, 0), MAC, None, None),  # and no codesign
        (
            MacFacts(sysctl=SUPPORTED, entitlements=ENTITLED), (8, 2, 0), MAC,
            "QEMU 8.2.0 is too old, because HVF is unreliable on Apple silicon before QEMU 8.2.1", "brew upgrade qemu",
        ),
        (
            MacFacts(sysctl={"kern.hv_support": "0"}, entitlements=ENTITLED), (9, 0), MAC,
            "this Mac does not support Hypervisor.framework (kern.hv_support is not 1)", NESTED,
        ),
        (
            MacFacts(entitlements=ENTITLED), (9, 0), MAC,
            "this Mac does not support Hypervisor.framework (kern.hv_support is not 1)", NESTED,
        ),
        (
            MacFacts(sysctl=SUPPORTED), (9, 0), MAC,
            "/q is not signed with the entitlement com.apple.security.hypervisor", "brew reinstall qemu",
        ),
        (
            MacFacts(sysctl=SUPPORTED, entitlements=ENTITLED.replace("true", "false")), (9, 0), INTEL_MAC,
            "/q is not signed with the entitlement com.apple.security.hypervisor", "brew reinstall qemu",
        ),
        (
            MacFacts(sysctl=SUPPORTED, entitlements="<plist"), (9, 0), INTEL_MAC,
            "/q is not signed with the entitlement com.apple.security.hypervisor", "brew reinstall qemu",
        ),
    ],
)  # fmt: skip
def test_hvf_is_used_only_where_it_is_proved_to_work(
    facts: MacFacts, version: tuple[int, ...], host: Host, reason: str | None, remedy: str | None
) -> None:
    support = hvf_support(facts, make_qemu("/q", version=version), host)
    assert support.accelerator is Accelerator.HVF
    assert support.obstacle == (Obstacle(reason=reason, remedy=remedy) if reason else None)


def test_hvf_that_was_asked_for_by_name_tells_its_remedy() -> None:
    support = hvf_support(MacFacts(sysctl=SUPPORTED), make_qemu("/q"), MAC)
    with pytest.raises(MachineError) as caught:
        choose_accelerator(AcceleratorChoice.HVF, Arch.AARCH64, MAC, support, make_qemu("/q"))
    assert caught.value.line == (
        "cannot use hvf for this machine: /q is not signed with the entitlement com.apple.security.hypervisor; "
        "use --accel auto or tcg, or: brew reinstall qemu"
    )
    assert caught.value.page is None


@pytest.mark.parametrize(
    ("answer", "version", "accelerator"),
    [
        ("1", (9, 2, 2), Accelerator.TCG),
        ("1", (9, 2, 3), Accelerator.HVF),
        ("0", (9, 2, 2), Accelerator.HVF),
        (None, (9, 2, 2), Accelerator.HVF),
    ],
)
def test_mac_with_the_matrix_extension_needs_a_newer_qemu(
    answer: str | None, version: tuple[int, ...], accelerator: Accelerator
) -> None:
    sysctl = SUPPORTED if answer is None else {**SUPPORTED, "hw.optional.arm.FEAT_SME": answer}
    qemu = make_qemu("/q", version=version)
    support = hvf_support(MacFacts(sysctl=sysctl, entitlements=ENTITLED), qemu, MAC)
    chosen = choose_accelerator(AUTO, Arch.AARCH64, MAC, support, qemu)
    assert chosen.accelerator is accelerator
    told = "QEMU 9.2.2 is too old, because it aborts on this Mac's CPU before QEMU 9.2.3"
    expected = Obstacle(reason=told, remedy="brew upgrade qemu") if accelerator is Accelerator.TCG else None
    assert chosen.obstacle == expected


@pytest.mark.parametrize(
    ("host", "accelerator", "most"),
    [
        (make_host(HostOS.MACOS, "arm64", kernel=(21, 4, 0)), Accelerator.HVF, 3072),
        (make_host(HostOS.MACOS, "arm64", kernel=(21, 5, 0)), Accelerator.HVF, None),
        (make_host(HostOS.MACOS, "arm64", kernel=(21, 4, 0)), Accelerator.TCG, None),
        (make_host(HostOS.MACOS, "x86_64", kernel=(20, 6, 0)), Accelerator.HVF, None),
        (make_host(kernel=(5, 10, 0)), Accelerator.KVM, None),
    ],
)
def test_old_macos_limits_memory(host: Host, accelerator: Accelerator, most: int | None) -> None:
    assert max_memory_mib(host, accelerator) == most
