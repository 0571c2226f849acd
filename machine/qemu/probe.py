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


@dataclass(frozen=True, kw_only=True)
class HardwareHelp:
    """The accelerator of this host's kind, and why it cannot be used; empty where it can."""

    accelerator: Accelerator
    obstacle: str


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


def probe_hardware(host: Host) -> HardwareHelp:
    """Prove that the kernel's hypervisor can run a stock guest."""
    match host.os:
        case HostOS.LINUX:
            return HardwareHelp(accelerator=Accelerator.KVM, obstacle=_kvm_obstacle(host.machine))
        case HostOS.MACOS:
            return HardwareHelp(accelerator=Accelerator.HVF, obstacle=_hvf_obstacle())


def _kvm_obstacle(machine: str, device: str = "/dev/kvm", cpuinfo: str = "/proc/cpuinfo") -> str:
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EACCES:
            return f"you may not open {device}: join the group kvm"
        return f"{device} cannot be opened: {error.strerror}"
    try:
        if fcntl.ioctl(descriptor, _KVM_GET_API_VERSION) != _KVM_API_VERSION:
            return f"{device} speaks another version of its interface"
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{device} makes no virtual machine: {error.strerror}"
    finally:
        os.close(descriptor)
    if machine in ("x86_64", "i686") and not has_virtualization_flag(_read_text(cpuinfo)):
        # A paravirtual KVM passes every test above, and a stock guest hangs in it after the firmware.
        return "the CPU shows neither vmx nor svm"
    return ""


def has_virtualization_flag(cpuinfo: str) -> bool:
    """Whether /proc/cpuinfo's text has an x86 CPU with Intel's or AMD's virtualization."""
    flags = [line for line in cpuinfo.splitlines() if line.startswith("flags")]
    return any(flag in line.split() for line in flags for flag in ("vmx", "svm"))


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _hvf_obstacle() -> str:
    try:
        answer = runner.run(["sysctl", "-n", "kern.hv_support"], timeout_s=_PROBE_TIMEOUT_S).stdout
    except MachineError as error:
        return error.message
    return "" if answer.strip() == "1" else "this Mac has no Hypervisor.framework (kern.hv_support is 0)"


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
