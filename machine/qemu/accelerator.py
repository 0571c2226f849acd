"""Decide whether hardware accelerates a guest, from facts about the host and the installed QEMU (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from machine.errors import MachineError, Page
from machine.model.arch import Arch
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.model.obstacle import Obstacle
from machine.qemu.boards import BOARDS

HYPERVISOR_ENTITLEMENT = "com.apple.security.hypervisor"

# In older versions, HVF on Apple silicon loses registers and hangs guests (changelog of QEMU 8.2.1).
_MIN_QEMU_HVF_ARM = (8, 2, 1)
# Older versions abort on a CPU with Arm's matrix extension, such as Apple's M4 (changelog of QEMU 9.2.3).
_MIN_QEMU_HVF_SME = (9, 2, 3)
# Rounded mean results of `scripts/bench arch`.
_SLOWER_NATIVE = "about twenty"
_SLOWER_FOREIGN = "about thirty"

_NESTED_MACOS = "if this Mac is a virtual machine, enable nested virtualization on its host"

# The kernel of macOS 12.4; in older ones, a guest's address space is too small for more memory than this.
_DARWIN_MEMORY = (21, 5)
_OLD_DARWIN_MEMORY_MIB = 3072


@dataclass(frozen=True, kw_only=True)
class QemuFacts:
    """What a QEMU binary reports about itself. `accelerators` and `networks` have the names that QEMU gives them."""

    path: str
    version: tuple[int, ...]
    accelerators: frozenset[str]
    networks: frozenset[str]

    @property
    def dotted(self) -> str:
        """The version with dots, like 8.2.1."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True, kw_only=True)
class HardwareSupport:
    """Whether this host's hardware accelerator works. `cpu_name` is None if it is unknown."""

    accelerator: Accelerator
    obstacle: Obstacle | None
    cpu_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """The accelerator and CPU model of a guest, and the name of the host's CPU if an accelerated guest depends on it.

    If the guest is emulated because hardware acceleration does not work, `obstacle` says why, and `notice` informs the
    user. With HVF, `hypervisor` has the versions of QEMU and macOS, because guests hang in some pairs of versions.
    """

    accelerator: Accelerator
    cpu: str
    host_cpu: str | None = None
    hypervisor: str | None = None
    notice: str | None = None
    obstacle: Obstacle | None = None

    @property
    def first_notice(self) -> str | None:
        """The notice for a machine's first start. It also says how long that takes, and what the user can do."""
        if not self.notice:
            return None
        remedy = f"; {self.obstacle.remedy}" if self.obstacle and self.obstacle.remedy else ""
        return f"{self.notice}, so its first boot takes a minute or more{remedy}"


CONFIGURE_ACCELERATOR = "choose another with: machine config set accel auto"
"""What to type if the accelerator of all new machines is meant."""


@dataclass(frozen=True, kw_only=True)
class MacFacts:
    """The facts about a Mac and a QEMU binary that decide whether the Mac's hardware accelerates guests.

    `sysctl` maps the names of system settings to their values. `entitlements` is the XML that codesign prints for the
    QEMU binary. It is None if codesign fails, and empty if the binary is not signed.
    """

    sysctl: Mapping[str, str] = field(default_factory=dict)
    entitlements: str | None = ""


def check_qemu(qemu: QemuFacts, arch: Arch, host: Host) -> None:
    """Check that this QEMU can run machines.

    Raises:
        MachineError: QEMU is too old, or lacks the network that every machine needs.
    """
    check_version(qemu, arch, host)
    check_network(qemu, arch, host)


def check_version(qemu: QemuFacts, arch: Arch, host: Host) -> None:
    """Check that this QEMU is recent enough for guests of `arch`.

    Raises:
        MachineError: QEMU is too old.
    """
    board = BOARDS[arch]
    if qemu.version < board.min_qemu:
        minimum = ".".join(map(str, board.min_qemu))
        raise MachineError(
            f"{qemu.path} is QEMU {qemu.dotted}, but {arch} guests need {minimum} or newer",
            hint=host.upgrade_hint(board.packages, f"a newer {board.binary}"),
            page=Page.OLD_QEMU,
        )


def check_network(qemu: QemuFacts, arch: Arch, host: Host) -> None:
    """Check that this QEMU has the network that machines use.

    Raises:
        MachineError: QEMU was built without that network.
    """
    board = BOARDS[arch]
    if "user" not in qemu.networks:
        raise MachineError(
            f"{qemu.path} was built without slirp, which every machine needs",
            hint=host.install_hint(board.packages, f"a {board.binary} that was built with slirp"),
            page=Page.DOCTOR,
        )


def hvf_support(facts: MacFacts, qemu: QemuFacts, host: Host) -> HardwareSupport:
    """Decide whether Hypervisor.framework on a Mac can run guests in this QEMU."""
    return HardwareSupport(
        accelerator=Accelerator.HVF,
        obstacle=_hvf_obstacle(facts, qemu, host),
        cpu_name=facts.sysctl.get("machdep.cpu.brand_string"),
    )


def _hvf_obstacle(facts: MacFacts, qemu: QemuFacts, host: Host) -> Obstacle | None:
    if facts.sysctl.get("kern.hv_support") != "1":
        return Obstacle(
            reason="this Mac does not support Hypervisor.framework (kern.hv_support is not 1)", remedy=_NESTED_MACOS
        )
    if host.machine == "arm64" and qemu.version < _MIN_QEMU_HVF_ARM:
        return Obstacle(
            reason=f"QEMU {qemu.dotted} is too old, because HVF is unreliable on Apple silicon before QEMU 8.2.1",
            remedy="brew upgrade qemu",
        )
    if facts.sysctl.get("hw.optional.arm.FEAT_SME") == "1" and qemu.version < _MIN_QEMU_HVF_SME:
        return Obstacle(
            reason=f"QEMU {qemu.dotted} is too old, because it aborts on this Mac's CPU before QEMU 9.2.3",
            remedy="brew upgrade qemu",
        )
    if facts.entitlements is not None and not _is_entitled(facts.entitlements):
        return Obstacle(
            reason=f"{qemu.path} is not signed with the entitlement {HYPERVISOR_ENTITLEMENT}",
            remedy="brew reinstall qemu",
        )
    return None


def _is_entitled(entitlements: str) -> bool:
    import plistlib
    from xml.parsers.expat import ExpatError

    try:
        document = plistlib.loads(entitlements.encode())
    except (ExpatError, ValueError):  # empty if there is no signature
        return False
    return isinstance(document, dict) and document.get(HYPERVISOR_ENTITLEMENT) is True


def choose_accelerator(
    choice: AcceleratorChoice,
    arch: Arch,
    host: Host,
    support: HardwareSupport,
    qemu: QemuFacts,
    *,
    otherwise: str = "use --accel auto or tcg",
) -> Acceleration:
    """Choose a guest's accelerator.

    The user's choice is an accelerator or `auto`. For `auto`, choose the hardware's accelerator if that works. If not,
    choose TCG, and add a notice for the user. `otherwise` tells the user how to choose another.

    Raises:
        MachineError: the accelerator that the user wants cannot be used, or no accelerator can be used.
    """
    board = BOARDS[arch]
    obstacle = _obstacle(choice, arch, host, support, qemu)
    if choice is not AcceleratorChoice.TCG and not obstacle:
        cpu = board.cpu(support.accelerator)
        hypervisor = f"QEMU {qemu.dotted} on {host.system}" if support.accelerator is Accelerator.HVF else None
        return Acceleration(accelerator=support.accelerator, cpu=cpu, host_cpu=support.cpu_name, hypervisor=hypervisor)
    if obstacle and choice not in (AcceleratorChoice.AUTO, AcceleratorChoice.TCG):
        other = f", or: {obstacle.remedy}" if obstacle.remedy else ""
        raise MachineError(
            f"cannot use {choice} for this machine: {obstacle.reason}",
            hint=f"{otherwise}{other}",
            page=Page.KVM if choice is AcceleratorChoice.KVM else None,
        )
    if Accelerator.TCG not in qemu.accelerators:
        reason = f", and {obstacle.reason}" if obstacle and choice is AcceleratorChoice.AUTO else ""
        raise MachineError(
            f"{qemu.path} was built without tcg{reason}",
            hint=host.install_hint(board.packages, f"a {board.binary} that was built with tcg"),
        )
    emulated = Acceleration(accelerator=Accelerator.TCG, cpu=board.cpu(Accelerator.TCG))
    if choice is AcceleratorChoice.TCG or not obstacle:
        return emulated
    return replace(emulated, notice=_slow_notice(obstacle, arch, host), obstacle=obstacle)


def _slow_notice(obstacle: Obstacle, arch: Arch, host: Host) -> str:
    return (
        f"No hardware acceleration ({obstacle.reason}): the guest is emulated and {slowness(arch, host)} times slower"
    )


def early_notice(choice: AcceleratorChoice, support: HardwareSupport) -> str | None:
    """If the accelerator that the user has chosen does not work at present, return a warning, else None."""
    if choice.value != support.accelerator or not support.obstacle:
        return None
    remedy = f"; {support.obstacle.remedy}" if support.obstacle.remedy else ""
    return (
        f"{choice} cannot be used now ({support.obstacle.reason}), so the machine will start only with "
        f"MACHINE_ACCEL=tcg{remedy}"
    )


def slowness(arch: Arch, host: Host) -> str:
    """Return a phrase that says how many times slower an emulated guest is than an accelerated one."""
    return _SLOWER_NATIVE if is_native(arch, host) else _SLOWER_FOREIGN


def _obstacle(
    choice: AcceleratorChoice, arch: Arch, host: Host, support: HardwareSupport, qemu: QemuFacts
) -> Obstacle | None:
    """Return why the host's hardware cannot accelerate the guest, or None if it can."""
    accelerator = support.accelerator
    if choice not in (AcceleratorChoice.AUTO, accelerator.value):
        return Obstacle(reason=f"{host.os} has no {choice}")
    if not is_native(arch, host):
        return Obstacle(reason=f"the guest is {arch} and the host is {host.machine}")
    if support.obstacle:
        return support.obstacle
    if accelerator not in qemu.accelerators:
        return Obstacle(
            reason=f"{qemu.path} was built without {accelerator}", remedy=f"install a QEMU that has {accelerator}"
        )
    return None


def is_native(arch: Arch, host: Host) -> bool:
    """Return whether the host's CPU can run the guest's code."""
    try:
        return Arch.parse(host.machine) is arch
    except ValueError:
        return False


def max_memory_mib(host: Host, accelerator: Accelerator) -> int | None:
    """Return the most memory in MiB that a guest can have here, or None if the host's memory is the only limit."""
    limited = host.os is HostOS.MACOS and host.machine == "arm64" and host.kernel < _DARWIN_MEMORY
    return _OLD_DARWIN_MEMORY_MIB if limited and accelerator is Accelerator.HVF else None
