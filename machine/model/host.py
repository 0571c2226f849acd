"""What this program needs to know of a host, as values that a test can make up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from machine.errors import BadInputError

ACCEL_VARIABLE = "MACHINE_ACCEL"


class HostOS(StrEnum):
    LINUX = "linux"
    MACOS = "darwin"

    @property
    def traits(self) -> HostTraits:
        return _TRAITS[self]


class Accelerator(StrEnum):
    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"

    @property
    def time_scale(self) -> int:
        """How much longer than with hardware help a guest may take for anything."""
        return 10 if self is Accelerator.TCG else 1


@dataclass(frozen=True, kw_only=True)
class HostTraits:
    """What all hosts of an operating system have in common: one row of the table below.

    `socket_path_limit` is what a Unix socket's path may have in bytes: sun_path less its closing zero byte. In the
    directory that `session_variable` names, sockets go. `firmware_directories` are where packages put QEMU's firmware
    descriptors, besides the directory of the QEMU in use. `service_path` is the PATH of programs that nobody's shell
    has started, of which a user's own goes first.
    """

    accelerator: Accelerator
    socket_path_limit: int
    session_variable: str
    firmware_directories: tuple[str, ...]
    service_path: tuple[str, ...]


_TRAITS = {
    HostOS.LINUX: HostTraits(
        accelerator=Accelerator.KVM,
        socket_path_limit=107,
        session_variable="XDG_RUNTIME_DIR",
        firmware_directories=("/usr/share/qemu/firmware",),
        service_path=("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"),
    ),
    HostOS.MACOS: HostTraits(
        accelerator=Accelerator.HVF,
        socket_path_limit=103,
        session_variable="TMPDIR",
        # Homebrew on Apple's CPUs and on Intel's, MacPorts.
        firmware_directories=(
            "/opt/local/share/qemu/firmware", "/usr/local/share/qemu/firmware", "/opt/homebrew/share/qemu/firmware",
        ),
        service_path=(
            "/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin",
        ),
    ),
}  # fmt: skip


class Installer(StrEnum):
    """Who installs programs on a host."""

    APT = "apt"
    DNF = "dnf"
    PACMAN = "pacman"
    ZYPPER = "zypper"
    BREW = "brew"

    def command(self, package: str) -> str:
        """What a person types to have a package."""
        return f"pacman -S {package}" if self is Installer.PACMAN else f"{self} install {package}"


_FAMILIES = {
    "debian": Installer.APT, "ubuntu": Installer.APT, "fedora": Installer.DNF,
    "arch": Installer.PACMAN, "suse": Installer.ZYPPER, "opensuse": Installer.ZYPPER,
}  # fmt: skip


def installer_of(os_release: str) -> Installer | None:
    """Whose packages a Linux has, by the text of its os-release(5); None where that is not known."""
    lines = (line.partition("=") for line in os_release.splitlines())
    fields = {key: value.strip("\"'") for key, _, value in lines}
    families = [*fields.get("ID", "").split(), *fields.get("ID_LIKE", "").split()]
    return next((_FAMILIES[family] for family in families if family in _FAMILIES), None)


def mac_machine(machine: str, version: str) -> str:
    """The CPU of a Mac, by uname's two words: the first tells programs under Rosetta of a CPU from Intel."""
    return "arm64" if "/RELEASE_ARM64" in version else machine


class AcceleratorChoice(StrEnum):
    """What a person can ask for."""

    AUTO = "auto"
    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AcceleratorChoice | None:
        """What $MACHINE_ACCEL asks for.

        Raises:
            BadInputError: it holds no accelerator.
        """
        wanted = environment.get(ACCEL_VARIABLE)
        if not wanted:
            return None
        try:
            return cls(wanted)
        except ValueError as error:
            raise BadInputError(
                f'{ACCEL_VARIABLE}="{wanted}" is no accelerator', hint=f"choose one of: {', '.join(cls)}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Host:
    """The host's own architecture is a `uname -m` word: it need not be one that guests can have.

    `kernel` is its version as far as it is numbers, Darwin's on macOS; empty where nothing depends on it.
    """

    os: HostOS
    machine: str
    cpus: int
    memory_mib: int
    installer: Installer | None = None
    kernel: tuple[int, ...] = ()

    def install_hint(self, packages: Mapping[Installer, str], otherwise: str) -> str:
        """How to get a program here: by the package that this host's installer has it in."""
        if self.installer and self.installer in packages:
            return f"install it with: {self.installer.command(packages[self.installer])}"
        return f"install {otherwise}"
