"""The virtual computer (QEMU's board) of each guest architecture. A new architecture needs a new row in the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from machine.model.arch import Arch
from machine.model.host import Accelerator, Installer

if TYPE_CHECKING:
    from machine.model.transport import Transport

Packages = Mapping[Installer, str]


class Bus(StrEnum):
    """The bus of a board's virtio devices. The value is the suffix of the devices' names."""

    PCI = "pci"
    CCW = "ccw"


class ConfigSource(StrEnum):
    """Where Ignition looks for its config under QEMU (coreos/ignition, internal/providers/qemu)."""

    FW_CFG = "fw_cfg"
    DISK = "disk"
    """A virtio disk with the serial number `ignition`."""


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """The UEFI firmware that a board needs to boot."""

    packages: Packages
    files: tuple[tuple[str, str], ...]
    """Where distributions install the firmware. Each pair is the paths of the code and of the variables' template."""

    shipped: tuple[str, str]
    """The names of the code and of the template in QEMU's own data directory."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """The virtual computer of one guest architecture."""

    target: str
    """QEMU's name of the architecture."""

    packages: Packages
    """The packages that contain the QEMU binary."""

    machine: str
    tcg_cpu: str
    """The CPU model of an emulated guest. QEMU's default `qemu64` lacks features that current distributions need."""

    console: str
    """The guest's name of the serial port whose output is logged."""

    hvf_cpu: str = "host"
    firmware: Firmware | None = None
    bus: Bus = Bus.PCI
    config_source: ConfigSource = ConfigSource.FW_CFG
    min_qemu: tuple[int, ...] = (6, 2)
    """The oldest QEMU version in which the board works."""

    has_smbios: bool = False
    """Whether the firmware passes SMBIOS tables on to the guest."""

    needs_root_ports: bool = False
    """Whether a device can be unplugged only from a PCI Express root port."""

    has_generation_id: bool = False
    """Whether the board can have a VM generation ID, which tells a guest that its memory was loaded from a file."""

    @property
    def binary(self) -> str:
        """The name of the QEMU program."""
        return f"qemu-system-{self.target}"

    @property
    def has_usb(self) -> bool:
        """Whether the board can have a USB controller, which is a PCI device."""
        return self.bus is Bus.PCI

    def cpu(self, accelerator: Accelerator) -> str:
        """Return the guest's CPU model."""
        match accelerator:
            case Accelerator.TCG:
                return self.tcg_cpu
            case Accelerator.KVM:
                return "host"
            case Accelerator.HVF:
                return self.hvf_cpu
            case _:
                assert_never(accelerator)

    def device(self, kind: str) -> str:
        """Return the name of a virtio device on this board's bus."""
        return f"virtio-{kind}-{self.bus}"

    def folder_device(self, transport: Transport) -> str:
        """Return the name of the device that shares a folder by this transport."""
        return f"vhost-user-fs-{self.bus}" if transport == "virtiofs" else self.device("9p")


def _packages(apt: str, dnf: str, zypper: str, *, pacman: str = "") -> Packages:
    return {
        Installer.APT: apt, Installer.DNF: dnf, Installer.PACMAN: pacman or dnf, Installer.ZYPPER: zypper,
        Installer.BREW: "qemu",
    }  # fmt: skip


# Some package names end with a comment, which a shell ignores when the user pastes the hint.
BOARDS = {
    Arch.X86_64: Board(
        target="x86_64",
        packages=_packages("qemu-system-x86", "qemu-system-x86", "qemu-x86"),
        machine="q35,vmport=off",
        tcg_cpu="max",
        # Intel Macs have these two features but HVF does not provide them, and guests that use them crash.
        hvf_cpu="host,-pdpe1gb,-avx512vl",
        console="ttyS0",
        has_smbios=True,
        needs_root_ports=True,
        has_generation_id=True,
    ),
    Arch.AARCH64: Board(
        target="aarch64",
        packages=_packages("qemu-system-arm", "qemu-system-aarch64", "qemu-arm"),
        machine="virt,gic-version=max",
        # Pointer authentication uses QEMU's own algorithm, as the architected one halves the speed of TCG.
        tcg_cpu="max,pauth-impdef=on",
        console="ttyAMA0",
        firmware=Firmware(
            packages=_packages("qemu-efi-aarch64", "edk2-aarch64", "qemu-uefi-aarch64"),
            files=(
                ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
                (
                    "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
                    "/usr/share/edk2/aarch64/vars-template-pflash.raw",
                ),
                ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
                ("/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"),
            ),
            shipped=("edk2-aarch64-code.fd", "edk2-arm-vars.fd"),
        ),
        has_smbios=True,
        needs_root_ports=True,
    ),
    Arch.RISCV64: Board(
        target="riscv64",
        packages=_packages(
            "qemu-system-riscv  # before Debian 13: qemu-system-misc", "qemu-system-riscv", "qemu-extra"
        ),
        # Kernels before 6.12 have no ACPI interrupts on RISC-V, and firmware hides the device tree if there is ACPI.
        machine="virt,acpi=off",
        tcg_cpu="rv64",
        console="ttyS0",
        firmware=Firmware(
            packages=_packages("qemu-efi-riscv64", "edk2-riscv64", "qemu-uefi-riscv64"),
            files=(
                ("/usr/share/qemu-efi-riscv64/RISCV_VIRT_CODE.fd", "/usr/share/qemu-efi-riscv64/RISCV_VIRT_VARS.fd"),
                ("/usr/share/edk2/riscv/RISCV_VIRT_CODE.fd", "/usr/share/edk2/riscv/RISCV_VIRT_VARS.fd"),
                ("/usr/share/edk2/riscv64/RISCV_VIRT_CODE.fd", "/usr/share/edk2/riscv64/RISCV_VIRT_VARS.fd"),
            ),
            shipped=("edk2-riscv-code.fd", "edk2-riscv-vars.fd"),
        ),
        # Older versions create fw_cfg too late for -fw_cfg, and do not run the firmware in flash in supervisor mode.
        min_qemu=(8, 1),
        needs_root_ports=True,
    ),
    Arch.S390X: Board(
        target="s390x",
        packages=_packages(
            "qemu-system-s390x  # before Debian 13: qemu-system-misc", "qemu-system-s390x", "qemu-s390x"
        ),
        machine="s390-ccw-virtio",
        tcg_cpu="max",
        console="ttysclp0",
        bus=Bus.CCW,
        config_source=ConfigSource.DISK,
    ),
    Arch.PPC64LE: Board(
        target="ppc64",
        packages=_packages("qemu-system-ppc", "qemu-system-ppc", "qemu-ppc"),
        machine="pseries,kvm-type=HV,ic-mode=xics",
        tcg_cpu="power9",
        console="hvc0",
        config_source=ConfigSource.DISK,
    ),
}
