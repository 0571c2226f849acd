"""What doctor says of the programs that machines need, on made-up hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.folders.probe import max_open_files
from machine.folders.transports import TransportFacts, choose_transport, host_obstacles
from machine.model.arch import Arch
from machine.model.doctor_check import Status
from machine.model.folders import Folder
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport, TransportChoice
from machine.ops import doctor_programs as checks
from machine.qemu.accelerator import HardwareSupport
from machine.qemu.firmware import FirmwareFiles
from machine.ssh.client import Client
from tests.support.builders import make_host, make_qemu
from tests.support.checks import text_of
from tests.support.golden import Golden

LINUX, MAC = HostOS.LINUX, HostOS.MACOS


QEMU = make_qemu("/usr/bin/qemu-system-x86_64")


KVM = HardwareSupport(accelerator=Accelerator.KVM, obstacle=None)


NO_KVM = HardwareSupport(
    accelerator=Accelerator.KVM, obstacle=Obstacle(reason="the CPU has neither vmx nor svm", remedy="enable it")
)


SSH = Client(path="/usr/bin/ssh", version="OpenSSH_9.2p1", obstacle=None)


ENOUGH_FILES = 524_288


def test_architecture(golden: Golden) -> None:
    golden.matches(text_of(checks.architecture_check(make_host(machine="armv7l"), None)), "without guests")
    golden.matches(text_of(checks.architecture_check(make_host(), Arch.X86_64)), "with guests")


@pytest.mark.parametrize(
    ("version", "arch", "status"),
    [
        ((5, 2, 0), Arch.X86_64, Status.FAILURE),
        ((5, 10, 1), Arch.X86_64, Status.FAILURE),
        ((6, 2, 0), Arch.X86_64, Status.OK),
        ((7, 2, 22), Arch.X86_64, Status.OK),
        ((7, 2, 22), Arch.RISCV64, Status.FAILURE),
        ((10, 0, 2), Arch.RISCV64, Status.OK),
    ],
)
def test_version_of_qemu(version: tuple[int, ...], arch: Arch, status: Status) -> None:
    check = checks.qemu_check(replace(QEMU, version=version), arch, make_host())
    assert check.status is status
    assert ".".join(map(str, version)) in check.finding


@pytest.mark.parametrize(("host_os", "arch"), [(LINUX, Arch.X86_64), (LINUX, Arch.AARCH64), (MAC, Arch.AARCH64)])
def test_qemu_without_slirp(host_os: HostOS, arch: Arch, golden: Golden) -> None:
    facts = replace(QEMU, networks=frozenset({"socket", "vhost-user"}))
    golden.matches(text_of(checks.network_check(facts, arch, make_host(host_os))))
    assert checks.network_check(QEMU, arch, make_host(host_os)).status is Status.OK


ACCELERATORS = {
    "auto": ("auto", KVM, "kvm tcg"),
    "kvm": ("kvm", KVM, "kvm tcg"),
    "tcg": ("tcg", KVM, "kvm tcg"),
    "auto without hardware": ("auto", NO_KVM, "kvm tcg"),
    "kvm without hardware": ("kvm", NO_KVM, "kvm tcg"),
    "hvf on Linux": ("hvf", KVM, "kvm tcg"),
    "QEMU without kvm": ("auto", KVM, "tcg"),
    "QEMU without tcg": ("auto", NO_KVM, "kvm"),
}


@pytest.mark.parametrize(("choice", "support", "accelerators"), ACCELERATORS.values(), ids=ACCELERATORS)
def test_accelerator(choice: str, support: HardwareSupport, accelerators: str, golden: Golden) -> None:
    facts = replace(QEMU, accelerators=frozenset(accelerators.split()))
    check = checks.accelerator_check(AcceleratorChoice(choice), Arch.X86_64, make_host(), support, facts)
    golden.matches(text_of(check))


def test_firmware(golden: Golden) -> None:
    missing = MachineError("no UEFI firmware for aarch64 guests on this host", hint="install it")
    found = FirmwareFiles(code=Path("/usr/share/code.fd"), variables=Path("/usr/share/vars.fd"))
    golden.matches(text_of(checks.firmware_check(Arch.X86_64, None, native=True)), "not needed")
    golden.matches(text_of(checks.firmware_check(Arch.AARCH64, found, native=True)), "found")
    golden.matches(
        text_of(checks.firmware_check(Arch.AARCH64, missing, native=True)), "missing for the host's own guests"
    )
    golden.matches(text_of(checks.firmware_check(Arch.AARCH64, missing, native=False)), "missing for foreign guests")


def test_ssh(golden: Golden) -> None:
    golden.matches(text_of(checks.ssh_check(SSH)), "good")
    old = replace(SSH, version="OpenSSH_6.6", obstacle="command-line: line 0: Bad configuration option: SetEnv")
    golden.matches(text_of(checks.ssh_check(old)), "old")


def test_keys(golden: Golden) -> None:
    keys = Path("/home/me/keys")
    golden.matches(text_of(checks.keys_check(3, [], keys)), "good")
    golden.matches(text_of(checks.keys_check(3, [keys / "a.gpg", keys / "b.asc"], keys)), "files without a key")
    golden.matches(text_of(checks.keys_check(0, [], keys)), "none")


NO_VIRTIOFSD = {Transport.VIRTIOFS: Obstacle("virtiofsd is not installed on this host", "install it")}


BROKEN_VIRTIOFSD = {Transport.VIRTIOFS: Obstacle("virtiofsd does not run: it exited with status 1")}


NOT_ON_A_MAC = {Transport.VIRTIOFS: Obstacle("virtiofsd needs Linux")}


FOLDERS: dict[str, tuple[dict[Transport, Obstacle], Host, int]] = {
    "all transports": ({}, make_host(), ENOUGH_FILES),
    "no virtiofsd": (NO_VIRTIOFSD, make_host(), ENOUGH_FILES),
    "broken virtiofsd": (BROKEN_VIRTIOFSD, make_host(), ENOUGH_FILES),
    "Mac": (NOT_ON_A_MAC, make_host(MAC), ENOUGH_FILES),
    "none": (
        {**NO_VIRTIOFSD, Transport.NINEP: Obstacle("b"), Transport.SSHFS: Obstacle("c")},
        make_host(),
        ENOUGH_FILES,
    ),
    "none on a Mac": (dict.fromkeys(Transport, Obstacle("none")), make_host(MAC), ENOUGH_FILES),
    "few open files": ({}, make_host(), 4096),
    "few open files, for root": ({Transport.NINEP: Obstacle("wrong owner")}, make_host(), 4096),
    "few open files and virtiofs alone": (
        {Transport.NINEP: Obstacle("b"), Transport.SSHFS: Obstacle("c")},
        make_host(),
        4096,
    ),
    "few open files and no virtiofs": (NOT_ON_A_MAC, make_host(MAC), 256),
}


@pytest.mark.parametrize(("obstacles", "host", "open_files"), FOLDERS.values(), ids=FOLDERS)
def test_folders(obstacles: dict[Transport, Obstacle], host: Host, open_files: int, golden: Golden) -> None:
    golden.matches(text_of(checks.folders_check(obstacles, host, open_files)))


@pytest.mark.parametrize("is_root", [False, True])
def test_open_files_are_raised_where_this_user_can_raise_them(is_root: bool) -> None:
    remedy = checks.folders_check({}, make_host(), 4096, is_root=is_root).remedy
    assert remedy
    where = "of the container or service in which this runs" if is_root else "(limits.conf(5))"
    assert remedy.startswith(f"raise the hard limit nofile {where}, or use: ")


def test_root_that_may_raise_limits_is_not_warned_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, allowed = (256, 4096), True

    def set_limits(_: int, wanted: tuple[int, int]) -> None:
        nonlocal limits
        if wanted[1] > limits[1] and not allowed:
            raise ValueError("not allowed to raise maximum limit")
        limits = wanted

    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    monkeypatch.setattr("resource.setrlimit", set_limits)
    assert max_open_files() >= ENOUGH_FILES
    assert limits == (256, 4096)
    allowed = False
    assert max_open_files() == 4096


@pytest.mark.parametrize("is_root", [False, True])
@pytest.mark.parametrize("has_virtiofsd", [False, True])
def test_folders_come_first_by_the_transport_that_auto_picks(is_root: bool, has_virtiofsd: bool) -> None:
    folder = Folder(source="/", target="/x")
    facts = TransportFacts(is_root=is_root, virtiofsd={folder: ["/v"]}, has_sftp_server=True)
    if not has_virtiofsd:
        facts = replace(facts, virtiofsd=NO_VIRTIOFSD[Transport.VIRTIOFS])
    obstacles = host_obstacles(TransportChoice.AUTO, facts, folder)
    finding = checks.folders_check(obstacles, make_host(), ENOUGH_FILES).finding
    assert finding.startswith(
        f"machines can share folders of this host through {choose_transport(TransportChoice.AUTO, facts, folder)}"
    )
    assert ("9p" in finding) is not is_root
