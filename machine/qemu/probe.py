"""What this host can do for a guest: questions to the kernel and the CPU, answered as values."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.qemu.boards import BOARDS

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_API_VERSION = 12
_PROBE_TIMEOUT_S = 10

MINIMUM_VERSION = (6, 0)
"""The CPU property `pauth-impdef` of aarch64 guests came with it; free page reporting of all guests with 5.1."""

_HYPERVISOR_ENTITLEMENT = "com.apple.security.hypervisor"

_JOIN_KVM = 'sudo usermod -aG kvm "$USER", and log in again'
_ENABLE_VIRTUALIZATION = (
    "enable virtualization in this host's firmware, or nested virtualization where the host is itself a guest; "
    "its kernel needs the module kvm"
)
_OTHER_HYPERVISOR = "stop other hypervisors on this host, such as VirtualBox"
_NESTED_MACOS = "where this Mac is itself a guest, its host has to allow nested virtualization"


@dataclass(frozen=True, kw_only=True)
class HardwareHelp:
    """The accelerator of this host's kind, why it cannot be used, and what may help; both empty where it can."""

    accelerator: Accelerator
    obstacle: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class QemuFacts:
    """What a QEMU binary tells of itself: its version, and the network backends and accelerators built into it."""

    path: str
    version: str
    backends: frozenset[str]
    accelerators: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """What was decided, and what to tell the person about it; empty where there is nothing to tell."""

    accelerator: Accelerator
    notice: str = ""


def find_qemu(arch: Arch, host_os: HostOS) -> str:
    """The path of the QEMU binary for guests of `arch`.

    Raises:
        MachineError: it is not installed.
    """
    board = BOARDS[arch]
    path = runner.find_program(board.binary)
    if path is None:
        command = "brew install qemu" if host_os is HostOS.MACOS else f"apt install {board.debian_package}"
        raise MachineError(
            f"{board.binary} is not installed on this host",
            hint=f"install it, on this host perhaps with: {command}",
        )
    return path


def qemu_version(path: str) -> str:
    """The version that a QEMU binary tells of itself.

    Raises:
        MachineError: it does not run.
    """
    answer = runner.run([path, "--version"], timeout_s=_PROBE_TIMEOUT_S).stdout
    found = re.search(r"version (\S+)", answer)
    return found[1] if found else answer.strip()


def parse_version(text: str) -> tuple[int, int] | None:
    """The first two numbers of a version, None where it does not begin with such (pure)."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def probe_qemu(path: str) -> QemuFacts:
    """Raises:
    MachineError: it does not run.
    """
    return QemuFacts(
        path=path,
        version=qemu_version(path),
        backends=parse_listing(_ask(path, "-netdev")),
        accelerators=parse_listing(_ask(path, "-accel")),
    )


def _ask(path: str, option: str) -> str:
    return runner.run([path, option, "help"], timeout_s=_PROBE_TIMEOUT_S).stdout


def parse_listing(text: str) -> frozenset[str]:
    """What QEMU lists one a line, below a line that ends with a colon (pure)."""
    _, _, listed = text.partition(":\n")
    return frozenset(listed.split())


def probe_hardware(host: Host) -> HardwareHelp:
    """Prove that the kernel's hypervisor can run a stock guest."""
    match host.os:
        case HostOS.LINUX:
            obstacle, remedy = _kvm_obstacle(host.machine)
            return HardwareHelp(accelerator=Accelerator.KVM, obstacle=obstacle, remedy=remedy)
        case HostOS.MACOS:
            obstacle, remedy = hvf_obstacle(_hv_support(), _entitlements(host))
            return HardwareHelp(accelerator=Accelerator.HVF, obstacle=obstacle, remedy=remedy)


def _kvm_obstacle(machine: str, device: str = "/dev/kvm", cpuinfo: str = "/proc/cpuinfo") -> tuple[str, str]:
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EACCES:
            return f"you may not open {device}: join the group kvm", _JOIN_KVM
        return f"{device} cannot be opened: {error.strerror}", _ENABLE_VIRTUALIZATION
    try:
        if fcntl.ioctl(descriptor, _KVM_GET_API_VERSION) != _KVM_API_VERSION:
            return f"{device} speaks another version of its interface", _OTHER_HYPERVISOR
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{device} makes no virtual machine: {error.strerror}", _OTHER_HYPERVISOR
    finally:
        os.close(descriptor)
    if machine in ("x86_64", "i686") and not has_virtualization_flag(_read_text(cpuinfo)):
        # A paravirtual KVM passes every test above, and a stock guest hangs in it after the firmware.
        return "the CPU shows neither vmx nor svm", _ENABLE_VIRTUALIZATION
    return "", ""


def has_virtualization_flag(cpuinfo: str) -> bool:
    """Whether /proc/cpuinfo's text has an x86 CPU with Intel's or AMD's virtualization."""
    flags = [line for line in cpuinfo.splitlines() if line.startswith("flags")]
    return any(flag in line.split() for line in flags for flag in ("vmx", "svm"))


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _hv_support() -> str:
    """What the kernel says of Hypervisor.framework; empty where it says nothing."""
    return _output(["sysctl", "-n", "kern.hv_support"]) or ""


def _entitlements(host: Host) -> str | None:
    """Those of the QEMU that would run the host's own kind of guest; None where they cannot be known."""
    try:
        path = runner.find_program(BOARDS[Arch.parse(host.machine)].binary)
    except ValueError:
        return None
    return _output(["codesign", "--display", "--entitlements", "-", "--xml", os.path.realpath(path)]) if path else None


def _output(argv: list[str]) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        return runner.run(argv, timeout_s=_PROBE_TIMEOUT_S).stdout
    except MachineError:
        return None


def hvf_obstacle(hv_support: str, entitlements: str | None) -> tuple[str, str]:
    """Why HVF cannot be used, and what may help; both empty where it can (pure).

    `hv_support` is what `sysctl -n kern.hv_support` prints, `entitlements` what codesign shows of QEMU, None where
    that is not known.
    """
    if hv_support.strip() != "1":
        said = hv_support.strip() or "not known"
        return f"this Mac has no Hypervisor.framework (kern.hv_support is {said})", _NESTED_MACOS
    if entitlements is not None and _HYPERVISOR_ENTITLEMENT not in entitlements:
        return f"QEMU is not signed with the entitlement {_HYPERVISOR_ENTITLEMENT}", "brew reinstall qemu"
    return "", ""


def choose_accelerator(choice: AcceleratorChoice, arch: Arch, host: Host, help_: HardwareHelp) -> Acceleration:
    """Hardware help where it is asked for or possible, else TCG with a notice (pure).

    Raises:
        MachineError: what was asked for by name cannot be had.
    """
    if choice is AcceleratorChoice.TCG:
        return Acceleration(accelerator=Accelerator.TCG)
    obstacle = _obstacle(choice, arch, host, help_)
    if not obstacle:
        return Acceleration(accelerator=help_.accelerator)
    if choice is not AcceleratorChoice.AUTO:
        raise MachineError(f"cannot use {choice} for this machine: {obstacle}", hint="use --accel auto or tcg")
    return Acceleration(
        accelerator=Accelerator.TCG,
        notice=f"No hardware acceleration ({obstacle}): the guest is emulated and about ten times slower",
    )


def _obstacle(choice: AcceleratorChoice, arch: Arch, host: Host, help_: HardwareHelp) -> str:
    if choice not in (AcceleratorChoice.AUTO, help_.accelerator.value):
        return f"{host.os} has no {choice}"
    if not _is_native(arch, host):
        return f"the guest is {arch} and the host {host.machine}"
    return help_.obstacle


def _is_native(arch: Arch, host: Host) -> bool:
    try:
        return Arch.parse(host.machine) is arch
    except ValueError:
        return False
