"""What this host can do for a guest: questions to the kernel and the CPU, answered as values."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.host import Host, HostOS
from machine.qemu.acceleration import HardwareHelp, MacFacts, QemuFacts, hvf_help
from machine.qemu.boards import BOARDS

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_API_VERSION = 12
_PROBE_TIMEOUT_S = 10
_MAC_FACTS = ("kern.hv_support", "hw.optional.arm.FEAT_SME")


def find_qemu(arch: Arch, host: Host) -> str:
    """The path of the QEMU binary for guests of `arch`.

    Raises:
        MachineError: it is not installed.
    """
    board = BOARDS[arch]
    path = shutil.which(board.binary)
    if path is None:
        raise MachineError(
            f"{board.binary} is not installed on this host",
            hint=host.install_hint(board.packages, "QEMU's system emulators"),
        )
    return path


def probe_qemu(path: str) -> QemuFacts:
    """Ask a QEMU binary what it is.

    Raises:
        MachineError: it does not run.
    """
    said = {
        question: runner.run([path, "-machine", "none", *question.split()], timeout_s=_PROBE_TIMEOUT_S).stdout
        for question in ("--version", "-accel help", "-netdev help")
    }
    found = re.search(r"version (\d+(?:\.\d+)*)", said["--version"])
    if not found:
        raise MachineError(f"{path} does not tell its version", details=said["--version"].splitlines())
    return QemuFacts(
        path=path,
        version=tuple(map(int, found[1].split("."))),
        accelerators=frozenset(said["-accel help"].split()),
        networks=frozenset(said["-netdev help"].split()),
    )


def probe_hardware(host: Host, qemu: QemuFacts) -> HardwareHelp:
    """Prove that the kernel's hypervisor can run a stock guest, on a Mac in this QEMU."""
    match host.os:
        case HostOS.LINUX:
            return HardwareHelp(accelerator=host.os.traits.accelerator, obstacle=_kvm_obstacle(host.machine))
        case HostOS.MACOS:
            return hvf_help(_probe_mac(qemu), qemu, host)


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


def _probe_mac(qemu: QemuFacts) -> MacFacts:
    values = {}
    for name in _MAC_FACTS:
        said = _answer(["sysctl", "-n", name])
        if said:
            values[name] = said
    entitlements = _answer(["codesign", "--display", "--entitlements", "-", "--xml", qemu.path])
    return MacFacts(sysctl=values, entitlements=entitlements)


def _answer(argv: list[str]) -> str:
    """What a program says; nothing where it fails, as for a name that this Mac does not know."""
    try:
        return runner.run(argv, timeout_s=_PROBE_TIMEOUT_S).stdout.strip()
    except MachineError:
        return ""
