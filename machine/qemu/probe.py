"""What this host can do for a guest: questions to the kernel, the CPU and QEMU, answered as values."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.host import Host, HostOS
from machine.model.transport import Transport
from machine.qemu.acceleration import HardwareHelp, MacFacts, QemuFacts, hvf_help
from machine.qemu.boards import BOARDS

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_API_VERSION = 12
_PROBE_TIMEOUT_S = 10
_MAC_FACTS = ("kern.hv_support", "hw.optional.arm.FEAT_SME")

_JOIN_KVM = 'sudo usermod -aG kvm "$USER", and log in again'
_ENABLE_VIRTUALIZATION = (
    "enable virtualization in this host's firmware, or nested virtualization where the host is itself a guest; "
    "its kernel needs the module kvm"
)
_OTHER_HYPERVISOR = "stop other hypervisors on this host, such as VirtualBox"


def find_qemu(arch: Arch, host: Host) -> str:
    """The path of the QEMU binary for guests of `arch`.

    Raises:
        MachineError: it is not installed.
    """
    board = BOARDS[arch]
    path = runner.find_program(board.binary)
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
    # Without a machine: most binaries have no default one, and some answer nothing before they have one.
    version, accelerators, networks = (
        runner.run([path, "-machine", "none", *question], timeout_s=_PROBE_TIMEOUT_S).stdout
        for question in (["--version"], ["-accel", "help"], ["-netdev", "help"])
    )
    found = re.search(r"version (\d+(?:\.\d+)*)", version)
    if not found:
        raise MachineError(f"{path} does not tell its version", details=version.splitlines())
    return QemuFacts(
        path=path,
        version=tuple(map(int, found[1].split("."))),
        accelerators=parse_listing(accelerators),
        networks=parse_listing(networks),
    )


def folder_devices(qemu: QemuFacts, arch: Arch) -> frozenset[Transport]:
    """What this QEMU can carry a folder into such a guest with.

    Raises:
        MachineError: it does not tell.
    """
    said = runner.run([qemu.path, "-machine", "none", "-device", "help"], timeout_s=_PROBE_TIMEOUT_S).stdout
    devices = {transport: BOARDS[arch].folder_device(transport) for transport in Transport if transport.is_device}
    return frozenset(transport for transport, device in devices.items() if f'name "{device}"' in said)


def parse_listing(text: str) -> frozenset[str]:
    """What QEMU lists one a line, below a line that ends with a colon (pure)."""
    _, _, listed = text.partition(":\n")
    return frozenset(listed.split())


def probe_hardware(host: Host, qemu: QemuFacts) -> HardwareHelp:
    """Prove that the kernel's hypervisor can run a stock guest, on a Mac in this QEMU."""
    match host.os:
        case HostOS.LINUX:
            obstacle, remedy = _kvm_obstacle(host.machine)
            return HardwareHelp(accelerator=host.os.traits.accelerator, obstacle=obstacle, remedy=remedy)
        case HostOS.MACOS:
            return hvf_help(_probe_mac(qemu), qemu, host)


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


def _probe_mac(qemu: QemuFacts) -> MacFacts:
    said = {name: _sysctl(name) for name in _MAC_FACTS}
    return MacFacts(
        sysctl={name: value for name, value in said.items() if value},
        entitlements=_entitlements(os.path.realpath(qemu.path)),
    )


def _sysctl(name: str) -> str:
    """Empty for a name that this Mac does not know."""
    try:
        return runner.run(["sysctl", "-n", name], timeout_s=_PROBE_TIMEOUT_S).stdout.strip()
    except MachineError:
        return ""


def _entitlements(path: str) -> str | None:
    try:
        told = runner.run(
            ["codesign", "--display", "--entitlements", "-", "--xml", path], timeout_s=_PROBE_TIMEOUT_S, check=False
        )
    except MachineError:
        return None
    return entitlements_told(told)


def entitlements_told(told: runner.Completed) -> str | None:
    """What codesign makes known: nothing of a program without a signature, None where it did not answer (pure).

    On an old macOS it has no --xml (lima-vm/lima#1975): what cannot be known there keeps nobody from trying.
    """
    if told.returncode == 0:
        return told.stdout.strip()
    return "" if "not signed" in told.stderr else None
