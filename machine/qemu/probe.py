"""Ask the kernel, the CPU and QEMU what they can do for a guest."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import re
from pathlib import Path

from machine import runner
from machine.errors import MachineError, Page, reason_of
from machine.model.arch import Arch
from machine.model.host import Host, HostOS
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport
from machine.qemu.accelerator import HardwareSupport, MacFacts, QemuFacts, hvf_support
from machine.qemu.boards import BOARDS

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_API_VERSION = 12
_PROBE_TIMEOUT_S = 10
_MAC_FACTS = ("kern.hv_support", "hw.optional.arm.FEAT_SME", "machdep.cpu.brand_string")
# What /proc/cpuinfo calls the CPU on x86, Arm (in numbers), POWER and RISC-V.
_CPU_NAMES = ("model name", "CPU implementer", "CPU variant", "CPU part", "cpu", "uarch")
_CPUINFO = "/proc/cpuinfo"

_ENABLE_VIRTUALIZATION = (
    "enable virtualization in this host's firmware, or nested virtualization if the host is a virtual machine; "
    "its kernel needs the module kvm"
)
_OTHER_HYPERVISOR = "stop other hypervisors on this host, such as VirtualBox"


def find_qemu(arch: Arch, host: Host) -> str:
    """Return the path of the QEMU binary for guests of `arch`.

    Raises:
        MachineError: the QEMU for `arch` is not installed.
    """
    board = BOARDS[arch]
    path = runner.find_program(board.binary)
    if path is None:
        raise MachineError(
            f"{board.binary} is not installed on this host",
            hint=host.install_hint(board.packages, "QEMU's system emulators"),
            page=Page.NO_QEMU,
        )
    return path


def probe_qemu(path: str, *, patience: int = 1) -> QemuFacts:
    """Ask a QEMU binary for its version, accelerators and networks. `patience` multiplies the time for the answers.

    Raises:
        MachineError: QEMU cannot be run, or does not print its version.
    """
    # Some binaries answer only if a machine is given, and most have no default machine.
    questions = (["--version"], ["-accel", "help"], ["-netdev", "help"])
    version, accelerators, networks = runner.run_together(
        [[path, "-machine", "none", *question] for question in questions], timeout_s=_PROBE_TIMEOUT_S * patience
    )
    found = re.search(r"version (\d+(?:\.\d+)*)", version)
    if not found:
        raise MachineError(f"cannot determine the version of {path}", details=version.splitlines())
    return QemuFacts(
        path=path,
        version=tuple(map(int, found[1].split("."))),
        accelerators=parse_listing(accelerators),
        networks=parse_listing(networks),
    )


def folder_devices(qemu: QemuFacts, arch: Arch, *, patience: int = 1) -> frozenset[Transport]:
    """Return the transports for which this QEMU has a device that shares a folder with guests of `arch`.

    `patience` multiplies the time for QEMU's answer.

    Raises:
        MachineError: QEMU cannot be run.
    """
    question = [qemu.path, "-machine", "none", "-device", "help"]
    answer = runner.run(question, timeout_s=_PROBE_TIMEOUT_S * patience).stdout
    devices = {transport: BOARDS[arch].folder_device(transport) for transport in Transport if transport.is_device}
    return frozenset(transport for transport, device in devices.items() if f'name "{device}"' in answer)


def parse_listing(text: str) -> frozenset[str]:
    """Parse a list that QEMU prints (pure). A heading that ends with a colon is followed by one word on each line."""
    _, _, listed = text.partition(":\n")
    return frozenset(listed.split())


def probe_hardware(host: Host, qemu: QemuFacts) -> HardwareSupport:
    """Find out whether this host's hypervisor can run an ordinary guest.

    On a Mac, that also depends on the QEMU binary.
    """
    match host.os:
        case HostOS.LINUX:
            return HardwareSupport(
                accelerator=host.os.traits.accelerator,
                obstacle=_kvm_obstacle(host.machine),
                cpu_name=cpu_name(_read_text(_CPUINFO)),
            )
        case HostOS.MACOS:
            return hvf_support(_probe_mac(qemu), qemu, host)


def _kvm_obstacle(machine: str, device: str = "/dev/kvm", cpuinfo: str = _CPUINFO) -> Obstacle | None:
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EACCES:
            # Permission is of no use where the CPU cannot do it.
            return _cpu_obstacle(machine, cpuinfo) or Obstacle(
                reason=f"you are not allowed to open {device}", remedy=_permit(Path(device))
            )
        return Obstacle(reason=f"{device} cannot be opened: {reason_of(error)}", remedy=_ENABLE_VIRTUALIZATION)
    try:
        if fcntl.ioctl(descriptor, _KVM_GET_API_VERSION) != _KVM_API_VERSION:
            return Obstacle(reason=f"{device} has an unknown API version", remedy=_OTHER_HYPERVISOR)
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as error:
        return Obstacle(
            reason=f"{device} cannot create a virtual machine: {reason_of(error)}", remedy=_OTHER_HYPERVISOR
        )
    finally:
        os.close(descriptor)
    # A paravirtual KVM passes every test above, but an ordinary guest hangs in it after the firmware.
    return _cpu_obstacle(machine, cpuinfo)


def _cpu_obstacle(machine: str, cpuinfo: str) -> Obstacle | None:
    if machine in ("x86_64", "i686") and not has_virtualization_flag(_read_text(cpuinfo)):
        return Obstacle(reason="the CPU has neither vmx nor svm", remedy=_ENABLE_VIRTUALIZATION)
    return None


def _permit(device: Path) -> str:
    """Return the remedy for a device that this user may not open.

    If the device's group is not root's and may open the device, the remedy is to join the group. Otherwise, the remedy
    is to let everyone open the device.
    """
    facts = device.stat()
    if facts.st_mode & 0o060 == 0o060 and facts.st_gid != 0:
        try:
            group = grp.getgrgid(facts.st_gid).gr_name
        except KeyError:
            group = str(facts.st_gid)
        return f'join the group {group} (sudo usermod -aG {group} "$USER") and log in again'
    return f"let other users open it, with: sudo chmod 666 {device}"


def has_virtualization_flag(cpuinfo: str) -> bool:
    """Return whether the text of /proc/cpuinfo shows an x86 CPU with Intel's or AMD's virtualization."""
    flags = [line for line in cpuinfo.splitlines() if line.startswith("flags")]
    return any(flag in line.split() for line in flags for flag in ("vmx", "svm"))


def cpu_name(cpuinfo: str) -> str | None:
    """Return the name of the first CPU in the text of /proc/cpuinfo, or None if it has none (pure)."""
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _CPU_NAMES and value.strip():
            found.setdefault(key.strip(), value.strip())
    return " ".join(found.values()) or None


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _probe_mac(qemu: QemuFacts) -> MacFacts:
    answers = {name: _sysctl(name) for name in _MAC_FACTS}
    return MacFacts(
        sysctl={name: value for name, value in answers.items() if value is not None},
        entitlements=_entitlements(os.path.realpath(qemu.path)),
    )


def _sysctl(name: str) -> str | None:
    """Return the value of the system setting `name`, or None if this Mac has no setting of that name."""
    try:
        return runner.run(["sysctl", "-n", name], timeout_s=_PROBE_TIMEOUT_S).stdout.strip()
    except MachineError:
        return None


def _entitlements(path: str) -> str | None:
    try:
        answer = runner.run(
            ["codesign", "--display", "--entitlements", "-", "--xml", path], timeout_s=_PROBE_TIMEOUT_S, check=False
        )
    except MachineError:
        return None
    return parse_entitlements(answer)


def parse_entitlements(answer: runner.Completed) -> str | None:
    """Return the entitlements that codesign printed, or None if codesign failed (pure).

    If the binary is not signed, the entitlements are empty.

    The codesign of an old macOS fails, because it has no option --xml (lima-vm/lima#1975).
    """
    if answer.returncode == 0:
        return answer.stdout.strip()
    return "" if "not signed" in answer.stderr else None
