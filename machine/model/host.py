"""Describe a host by values, so that a test can describe any host."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from machine.errors import BadInputError
from machine.model.dataclass import dataclass

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
        """The factor by which to lengthen the deadlines of guests. With hardware acceleration, this is 1."""
        return 10 if self is Accelerator.TCG else 1


@dataclass(frozen=True, kw_only=True)
class HostTraits:
    """What all hosts of an operating system have in common (one row of the table in this module)."""

    accelerator: Accelerator
    socket_path_limit: int
    """The length in bytes of the longest path of a Unix socket (sun_path without its final NUL)."""

    session_variable: str
    """The environment variable that names the directory for sockets."""

    data_directory: str
    """The directory for the data of all programs, below the user's home directory."""

    firmware_directories: tuple[str, ...]
    """The directories where packages put firmware descriptors, besides the directory of the QEMU in use."""

    service_path: tuple[str, ...]
    """The directories at the end of the PATH of services, after those of the user's own PATH."""


_TRAITS = {
    HostOS.LINUX: HostTraits(
        accelerator=Accelerator.KVM,
        socket_path_limit=107,
        session_variable="XDG_RUNTIME_DIR",
        data_directory=".local/share",
        firmware_directories=("/usr/share/qemu/firmware",),
        service_path=("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"),
    ),
    HostOS.MACOS: HostTraits(
        accelerator=Accelerator.HVF,
        socket_path_limit=103,
        session_variable="TMPDIR",
        data_directory="Library/Application Support",
        # MacPorts, Homebrew on Intel, Homebrew on Apple silicon.
        firmware_directories=(
            "/opt/local/share/qemu/firmware", "/usr/local/share/qemu/firmware", "/opt/homebrew/share/qemu/firmware",
        ),
        service_path=(
            "/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin",
        ),
    ),
}  # fmt: skip


class Installer(StrEnum):
    """A host's package manager."""

    APT = "apt"
    DNF = "dnf"
    PACMAN = "pacman"
    ZYPPER = "zypper"
    BREW = "brew"

    def command(self, package: str) -> str:
        """Return the command that installs a package."""
        return f"{self._program} {'-S' if self is Installer.PACMAN else 'install'} {package}"

    @property
    def _program(self) -> str:
        return self if self is Installer.BREW else f"sudo {self}"  # Homebrew refuses root

    def upgrade_hint(self, package: str) -> str:
        """Return a hint that says how to get a newer version of a package that is installed."""
        match self:
            case Installer.APT:  # a release of Debian or Ubuntu keeps the version that it came with
                return "install a newer version from the backports of this host's release, or upgrade this host"
            case Installer.PACMAN:
                return f"upgrade it with: {self._program} -Syu"
            case Installer.ZYPPER:
                return f"upgrade it with: {self._program} update {package}"
            case Installer.DNF | Installer.BREW:
                return f"upgrade it with: {self._program} upgrade {package}"


_FAMILIES = {
    "debian": Installer.APT, "ubuntu": Installer.APT, "fedora": Installer.DNF,
    "arch": Installer.PACMAN, "suse": Installer.ZYPPER, "opensuse": Installer.ZYPPER,
}  # fmt: skip


def installer_of(os_release: str) -> Installer | None:
    """Return the package manager of the OS that an os-release(5) describes, or None if we do not know this OS."""
    lines = (line.partition("=") for line in os_release.splitlines())
    fields = {key: value.strip("\"'") for key, _, value in lines}
    families = [*fields.get("ID", "").split(), *fields.get("ID_LIKE", "").split()]
    return next((_FAMILIES[family] for family in families if family in _FAMILIES), None)


def mac_machine(machine: str, version: str) -> str:
    """Return a Mac's architecture from the fields of uname. Under Rosetta, `machine` alone would name an Intel CPU."""
    return "arm64" if "/RELEASE_ARM64" in version else machine


class AcceleratorChoice(StrEnum):
    """The accelerator that a user asks for. With `auto`, the best accelerator that works is used."""

    AUTO = "auto"
    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AcceleratorChoice | None:
        """Return the accelerator that $MACHINE_ACCEL names, or None if it is not set.

        Raises:
            BadInputError: the value of $MACHINE_ACCEL is not an accelerator.
        """
        value = environment.get(ACCEL_VARIABLE)
        if not value:
            return None
        try:
            return cls(value)
        except ValueError as error:
            raise BadInputError(
                f'{ACCEL_VARIABLE}="{value}" is not an accelerator', hint=f"choose one of: {', '.join(cls)}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Host:
    """The computer that this program runs on."""

    os: HostOS
    machine: str
    """The host's architecture as `uname -m` names it. Guests need not be able to have this architecture."""

    cpus: int
    memory_mib: int
    installer: Installer | None = None
    kernel: tuple[int, ...] = ()
    """The version of the host's kernel, as numbers. On macOS, the kernel is Darwin."""

    @property
    def system(self) -> str:
        """The name and version of the operating system, for people."""
        version = ".".join(map(str, self.kernel))
        match self.os:
            case HostOS.LINUX:
                return f"Linux {version}"
            case HostOS.MACOS:
                darwin = self.kernel[0] if self.kernel else 0
                # Since Darwin 25, macOS is named after the year. macOS 11 had Darwin 20.
                return f"macOS {darwin + 1 if darwin >= 25 else darwin - 9} (Darwin {version})"

    def install_hint(self, packages: Mapping[Installer, str], otherwise: str) -> str:
        """Return a hint that says how to install a program.

        If `packages` has a package for this host, the hint has the command that installs the package. Otherwise, the
        hint is the word "install" and the text `otherwise`.
        """
        if self.installer and self.installer in packages:
            return f"install it with: {self.installer.command(packages[self.installer])}"
        return f"install {otherwise}"

    def upgrade_hint(self, packages: Mapping[Installer, str], otherwise: str) -> str:
        """Return a hint that says how to get a newer version of an installed program, as `install_hint` does."""
        if self.installer and self.installer in packages:
            return self.installer.upgrade_hint(packages[self.installer])
        return f"install {otherwise}"
