"""What a host is, by what it tells of itself."""

from __future__ import annotations

import pytest

from machine.model.host import Installer, installer_of, mac_machine
from machine.this_host import current_host
from tests.support.builders import make_host


@pytest.mark.parametrize(
    ("text", "installer"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n', Installer.APT),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", Installer.APT),
        ("ID=fedora\nVARIANT_ID=workstation\n", Installer.DNF),
        ('ID="centos"\nID_LIKE="rhel fedora"\n', Installer.DNF),
        ("ID=arch\n", Installer.PACMAN),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', Installer.ZYPPER),
        ("ID=nixos\n", None),
        ("# a comment\n\nNAME=debian\n", None),
        ("", None),
    ],
)
def test_installer_of_a_linux(text: str, installer: Installer | None) -> None:
    assert installer_of(text) is installer


def test_hint_names_the_package_of_this_hosts_installer() -> None:
    packages = {Installer.APT: "thing-debian", Installer.PACMAN: "thing"}
    assert make_host().install_hint(packages, "a thing") == "install it with: sudo apt install thing-debian"
    assert (
        make_host(installer=Installer.PACMAN).install_hint(packages, "a thing")
        == "install it with: sudo pacman -S thing"
    )
    assert make_host(installer=Installer.DNF).install_hint(packages, "a thing") == "install a thing"
    assert make_host(installer=None).install_hint(packages, "a thing") == "install a thing"


@pytest.mark.parametrize(
    ("installer", "hint"),
    [
        # What apt would install is the version that is there.
        (Installer.APT, "install a newer version from the backports of this host's release, or upgrade this host"),
        (Installer.DNF, "upgrade it with: sudo dnf upgrade thing"),
        (Installer.ZYPPER, "upgrade it with: sudo zypper update thing"),
        (Installer.PACMAN, "upgrade it with: sudo pacman -Syu"),
        (Installer.BREW, "upgrade it with: brew upgrade thing"),
        (None, "install a newer thing"),
    ],
)
def test_hint_for_a_newer_version(installer: Installer | None, hint: str) -> None:
    packages = dict.fromkeys(Installer, "thing")
    assert make_host(installer=installer).upgrade_hint(packages, "a newer thing") == hint


@pytest.mark.parametrize(
    ("machine", "kernel", "cpu"),
    [
        ("arm64", "xnu-8020.140.41~1/RELEASE_ARM64_T6000", "arm64"),
        ("x86_64", "xnu-8020.140.41~1/RELEASE_ARM64_T6000", "arm64"),  # under Rosetta
        ("x86_64", "xnu-8020.140.41~1/RELEASE_X86_64", "x86_64"),
    ],
)
def test_mac_is_what_its_kernel_is(machine: str, kernel: str, cpu: str) -> None:
    version = f"Darwin Kernel Version 21.6.0: Wed Aug 10 14:28:23 PDT 2022; root:{kernel}"
    assert mac_machine(machine, version) == cpu


def test_kernel_of_this_host_is_a_version() -> None:
    assert len(current_host().kernel) >= 2
