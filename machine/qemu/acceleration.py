"""Whether and how hardware helps a guest: decisions from what was found out about a host and its QEMU. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.qemu.boards import BOARDS

HYPERVISOR_ENTITLEMENT = "com.apple.security.hypervisor"

# Before, HVF on Apple's CPUs lost registers and hung guests (QEMU's changelog of 8.2.1; Lima asks for it too).
_LEAST_QEMU_HVF_ARM = (8, 2, 1)
# The means that scripts/bench arch tells, rounded.
_SLOWER_NATIVE = "about twenty"
_SLOWER_FOREIGN = "about thirty"

_NESTED_MACOS = "allow nested virtualization on this Mac's host, where it is itself a guest"

# macOS 12.4, by its kernel: older ones give a guest too few addresses for more memory than this.
_DARWIN_MEMORY = (21, 5)
_OLD_DARWIN_MEMORY_MIB = 3072


@dataclass(frozen=True, kw_only=True)
class QemuFacts:
    """What a QEMU binary tells of itself; `version` has numbers alone, `accelerators` and `networks` its own words."""

    path: str
    version: tuple[int, ...]
    accelerators: frozenset[str]
    networks: frozenset[str]

    @property
    def dotted(self) -> str:
        return ".".join(map(str, self.version))


@dataclass(frozen=True, kw_only=True)
class HardwareHelp:
    """The accelerator of this host's kind, and why it cannot be used; empty where it can.

    `remedy` is what may mend that. `has_sme` tells of a CPU with Arm's matrix extension.
    """

    accelerator: Accelerator
    obstacle: str
    remedy: str = ""
    has_sme: bool = False


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """What was decided, and what to tell the person about it; empty where there is nothing to tell.

    `obstacle` is what keeps hardware from helping where it would be welcome, and `remedy` what may mend that.
    """

    accelerator: Accelerator
    cpu: str
    notice: str = ""
    obstacle: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class MacFacts:
    """What `sysctl` tells, by its names, and the entitlements of a QEMU binary as `codesign` prints them in XML.

    They are None where `codesign` cannot be asked.
    """

    sysctl: Mapping[str, str] = field(default_factory=dict)
    entitlements: str | None = ""


def check_qemu(qemu: QemuFacts, arch: Arch, host: Host) -> None:
    """Raises:
    MachineError: this QEMU cannot do what every machine needs of it.
    """
    check_version(qemu, arch, host)
    check_network(qemu, arch, host)


def check_version(qemu: QemuFacts, arch: Arch, host: Host) -> None:
    """Raises:
    MachineError: it is too old for such guests.
    """
    board = BOARDS[arch]
    if qemu.version < board.least_qemu:
        least = ".".join(map(str, board.least_qemu))
        raise MachineError(
            f"{qemu.path} is QEMU {qemu.dotted}, and guests of {arch} need {least} or newer",
            hint=host.install_hint(board.packages, f"a newer {board.binary}"),
        )


def check_network(qemu: QemuFacts, arch: Arch, host: Host) -> None:
    """Raises:
    MachineError: it was built without the network that machines have.
    """
    board = BOARDS[arch]
    if "user" not in qemu.networks:
        raise MachineError(
            f"{qemu.path} was built without slirp, the network of every machine",
            hint=host.install_hint(board.packages, f"a {board.binary} whose -netdev help names user"),
        )


def hvf_help(facts: MacFacts, qemu: QemuFacts, host: Host) -> HardwareHelp:
    """Whether a Mac's Hypervisor.framework can run a guest in this QEMU."""
    obstacle, remedy = _hvf_obstacle(facts, qemu, host)
    return HardwareHelp(
        accelerator=Accelerator.HVF,
        obstacle=obstacle,
        remedy=remedy,
        has_sme=facts.sysctl.get("hw.optional.arm.FEAT_SME") == "1",
    )


def _hvf_obstacle(facts: MacFacts, qemu: QemuFacts, host: Host) -> tuple[str, str]:
    if facts.sysctl.get("kern.hv_support") != "1":
        return "this Mac has no Hypervisor.framework (kern.hv_support is not 1)", _NESTED_MACOS
    if host.machine == "arm64" and qemu.version < _LEAST_QEMU_HVF_ARM:
        return f"QEMU {qemu.dotted} is older than 8.2.1, the first that does it well here", "brew upgrade qemu"
    if facts.entitlements is not None and not _is_entitled(facts.entitlements):
        return f"{qemu.path} is not signed with the entitlement {HYPERVISOR_ENTITLEMENT}", "brew reinstall qemu"
    return "", ""


def _is_entitled(entitlements: str) -> bool:
    import plistlib
    from xml.parsers.expat import ExpatError

    try:
        document = plistlib.loads(entitlements.encode())
    except (ExpatError, ValueError):  # nothing at all, where there is no signature
        return False
    return isinstance(document, dict) and document.get(HYPERVISOR_ENTITLEMENT) is True


def choose_accelerator(
    choice: AcceleratorChoice, arch: Arch, host: Host, help_: HardwareHelp, qemu: QemuFacts
) -> Acceleration:
    """Hardware help where it is asked for or possible, else TCG with a notice.

    Raises:
        MachineError: what was asked for by name cannot be had.
    """
    board = BOARDS[arch]
    obstacle, remedy = _obstacle(choice, arch, host, help_, qemu)
    if choice is not AcceleratorChoice.TCG and not obstacle:
        return Acceleration(accelerator=help_.accelerator, cpu=board.cpu(help_.accelerator, has_sme=help_.has_sme))
    if choice not in (AcceleratorChoice.AUTO, AcceleratorChoice.TCG):
        other = f", or: {remedy}" if remedy else ""
        raise MachineError(f"cannot use {choice} for this machine: {obstacle}", hint=f"use --accel auto or tcg{other}")
    if Accelerator.TCG not in qemu.accelerators:
        reason = f", and {obstacle}" if choice is AcceleratorChoice.AUTO else ""
        raise MachineError(
            f"{qemu.path} was built without tcg{reason}",
            hint=host.install_hint(board.packages, f"a {board.binary} whose -accel help names tcg"),
        )
    emulated = Acceleration(accelerator=Accelerator.TCG, cpu=board.cpu(Accelerator.TCG))
    if choice is AcceleratorChoice.TCG:
        return emulated
    return replace(emulated, notice=_slow_notice(obstacle, arch, host), obstacle=obstacle, remedy=remedy)


def _slow_notice(obstacle: str, arch: Arch, host: Host) -> str:
    return f"No hardware acceleration ({obstacle}): the guest is emulated and {slowness(arch, host)} times slower"


def early_notice(choice: AcceleratorChoice, help_: HardwareHelp) -> str:
    """What to tell who asks by name, long before a start, for an accelerator that cannot be used as things are."""
    if choice.value != help_.accelerator or not help_.obstacle:
        return ""
    remedy = f"; {help_.remedy}" if help_.remedy else ""
    return f"{choice} cannot be used now ({help_.obstacle}): a start needs it, or MACHINE_ACCEL=tcg{remedy}"


def slowness(arch: Arch, host: Host) -> str:
    """How many times more of the host's CPU an emulated guest takes for the same work."""
    return _SLOWER_NATIVE if is_native(arch, host) else _SLOWER_FOREIGN


def _obstacle(
    choice: AcceleratorChoice, arch: Arch, host: Host, help_: HardwareHelp, qemu: QemuFacts
) -> tuple[str, str]:
    """Why hardware cannot help as it was asked to, and what may mend that; both empty where it can."""
    if choice not in (AcceleratorChoice.AUTO, help_.accelerator.value):
        return f"{host.os} has no {choice}", ""
    if not is_native(arch, host):
        return f"the guest is {arch} and the host {host.machine}", ""
    if help_.obstacle:
        return help_.obstacle, help_.remedy
    if help_.accelerator not in qemu.accelerators:
        return f"{qemu.path} was built without {help_.accelerator}", f"install a QEMU that has {help_.accelerator}"
    return "", ""


def is_native(arch: Arch, host: Host) -> bool:
    """Whether the host's CPU runs the guest's code."""
    try:
        return Arch.parse(host.machine) is arch
    except ValueError:
        return False


def most_memory_mib(host: Host, accelerator: Accelerator) -> int | None:
    """What this host gives a guest at most, None where its own memory is the only limit."""
    limited = host.os is HostOS.MACOS and host.machine == "arm64" and host.kernel < _DARWIN_MEMORY
    return _OLD_DARWIN_MEMORY_MIB if limited and accelerator is Accelerator.HVF else None
