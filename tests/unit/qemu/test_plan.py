"""QEMU's whole command line for every pair of host and guest, against files that a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from machine.model.arch import Arch
from machine.model.config import Provisioning
from machine.model.folders import Folder, Share
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.model.record import GuestFacts, Pending
from machine.model.transport import Transport
from machine.qemu.accelerator import Acceleration, HardwareSupport, choose_accelerator, is_native
from machine.qemu.boards import BOARDS
from machine.qemu.firmware import FirmwareFiles
from machine.qemu.plan import escape, option, plan_launch
from machine.supervisor.launch import new_hardware
from tests.support.builders import RELAY, make_host, make_launch_files, make_paths, make_qemu, make_record
from tests.support.golden import Golden

COMMA_AND_SPACE = "/srv/my machines, all of them"

HOSTS = {
    "linux-x86_64": make_host(machine="x86_64"),
    "linux-aarch64": make_host(machine="aarch64"),
    "darwin-arm64": make_host(HostOS.MACOS, "arm64"),
    "darwin-x86_64": make_host(HostOS.MACOS, "x86_64"),
}
HOMES = {
    HostOS.LINUX: "/home/me/.local/share/boot2podman",
    HostOS.MACOS: "/Users/me/Library/Application Support/boot2podman",
}
PREFIXES = {"linux": "/usr", "darwin-arm64": "/opt/homebrew", "darwin-x86_64": "/usr/local"}


@dataclass(frozen=True, kw_only=True)
class Case:
    host: Host
    prefix: str
    arch: Arch
    accelerator: AcceleratorChoice

    @property
    def firmware(self) -> FirmwareFiles | None:
        """What Debian or Homebrew has."""
        firmware = BOARDS[self.arch].firmware
        if firmware is None:
            return None
        if self.host.os is HostOS.LINUX:
            code, variables = firmware.files[0]
        else:
            code, variables = (f"{self.prefix}/share/qemu/{name}" for name in firmware.shipped)
        return FirmwareFiles(code=Path(code), variables=Path(variables))


def every_case() -> Iterator[tuple[str, Case]]:
    """Hosts x guests x accelerators; hardware helps a guest of the host's own architecture alone."""
    for name, host in HOSTS.items():
        prefix = next(prefix for start, prefix in PREFIXES.items() if name.startswith(start))
        for arch in Arch:
            hardware = [AcceleratorChoice(host.os.traits.accelerator)] if is_native(arch, host) else []
            for accelerator in (*hardware, AcceleratorChoice.TCG):
                yield f"{name}.{arch}-{accelerator}", Case(host=host, prefix=prefix, arch=arch, accelerator=accelerator)


CASES = dict(every_case())


def shares(case: Case, home: str) -> list[Share]:
    """Two of the host's folders, by what such a host has for them."""
    transport = Transport.VIRTIOFS if case.host.os is HostOS.LINUX else Transport.NINEP
    paths = make_paths(Path(home))
    folders = (
        Folder(source=f"{HOMES[case.host.os]}, all", target="/mnt/my folder"),
        Folder(source="/srv", target="/srv", read_only=True),
    )
    return [
        Share(folder=folder, transport=transport, socket=PurePosixPath(paths.folder_socket(number)))
        for number, folder in enumerate(folders)
    ]


def plan(
    case: Case,
    *,
    home: str | None = None,
    shared: bool = False,
    machine_type: str | None = None,
    keeps_folders: bool = False,
    **fields: Any,
) -> tuple[str, ...]:
    qemu = make_qemu(f"{case.prefix}/bin/{BOARDS[case.arch].binary}")
    hardware = HardwareSupport(accelerator=case.host.os.traits.accelerator, obstacle=None)
    record = make_record(arch=case.arch, **fields)
    acceleration = choose_accelerator(case.accelerator, case.arch, case.host, hardware, qemu)
    shared_folders = shares(case, home or HOMES[case.host.os]) if shared else []
    virtual = new_hardware(record, acceleration, shared_folders)
    return plan_launch(
        record,
        binary=qemu.path,
        hardware=replace(virtual, machine_type=machine_type, keeps_folders=keeps_folders),
        relay=RELAY,
        firmware=case.firmware,
        files=make_launch_files(Path(home or HOMES[case.host.os])),
        shares=shared_folders,
    ).argv


PROVISIONED = GuestFacts(provisioned=True)
VARIANTS: dict[str, dict[str, Any]] = {
    "first-boot": {},
    "provisioned": {"guest": PROVISIONED},
    "comma-and-space": {"home": COMMA_AND_SPACE},
    "folders": {"shared": True},
    "resume": {"shared": True, "guest": PROVISIONED, "machine_type": "versioned-1.0"},
    "usb": {"usbs": ("bus=1,devnum=12", "vendor=046d,product=c52b")},
}
PAIRS = [
    (name, variant)
    for name, case in CASES.items()
    for variant in VARIANTS
    if variant != "usb" or BOARDS[case.arch].has_usb
]


def one_option_a_line(argv: Sequence[str]) -> str:
    """The binary, then each option with its value."""
    lines: list[str] = []
    for word in argv:
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("name", "variant"), PAIRS)
def test_command_line_is_the_golden_one(name: str, variant: str, golden: Golden) -> None:
    argv = plan(CASES[name], **VARIANTS[variant])
    golden.matches_file(one_option_a_line(argv), f"{name}.{variant}.args")


@pytest.mark.parametrize("name", CASES)
def test_guest_gets_its_private_keys_only_until_it_is_provisioned(name: str) -> None:
    assert any("config.ign" in word for word in plan(CASES[name]))
    assert not any("config.ign" in word for word in plan(CASES[name], guest=PROVISIONED))


def test_clone_is_told_its_identity_until_it_has_it() -> None:
    case = CASES["linux-x86_64.x86_64-kvm"]
    settled = plan(case, guest=PROVISIONED, home=COMMA_AND_SPACE)
    pending = plan(case, guest=PROVISIONED, home=COMMA_AND_SPACE, pending=Pending(rekey=True))
    table = f"{COMMA_AND_SPACE.replace(',', ',,')}/data/machines/box/identity.smbios"
    assert pending == (*settled, "-smbios", f"file={table}")


def test_guest_that_has_kept_its_folders_is_resumed_with_their_devices() -> None:
    case = CASES["linux-x86_64.x86_64-kvm"]
    booted, resumed, mounted = (
        [line for line in one_option_a_line(plan(case, shared=True, **options)).splitlines() if "folder" in line]
        for options in ({}, {"machine_type": "versioned-1.0"}, {"machine_type": "versioned-1.0", "keeps_folders": True})
    )
    assert len(booted) == 4
    assert resumed == []
    assert mounted == booted


@pytest.mark.parametrize("arch", Arch)
def test_guest_of_cloud_init_has_its_seed_until_it_is_provisioned(arch: Arch) -> None:
    def lines(guest: GuestFacts) -> list[str]:
        record = make_record(arch=arch, provisioning=Provisioning.CLOUD_INIT, guest=guest)
        files = make_launch_files(Path("/m, m"))
        hardware = new_hardware(record, Acceleration(accelerator=Accelerator.TCG, cpu="max"), [])
        plan = plan_launch(record, binary="qemu", hardware=hardware, relay=RELAY, firmware=None, files=files)
        return one_option_a_line(plan.argv).splitlines()

    before, after = lines(GuestFacts()), lines(PROVISIONED)
    assert before[: len(after)] == after
    drive, device = before[len(after) :]
    assert drive == "-drive if=none,id=seed,format=raw,readonly=on,file=/m,, m/data/machines/box/seed.img"
    assert device == f"-device {BOARDS[arch].device('blk')},drive=seed"


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("darwin")])
def test_macs_are_asked_for_nothing_that_only_linux_has(name: str) -> None:
    text = " ".join(plan(CASES[name], shared=True))
    assert not [word for word in ("vsock", "vhost", "virtiofs", "memfd", "/dev/", "kvm,", "accel kvm") if word in text]


def test_a_board_without_pci_has_no_device_on_pci() -> None:
    text = one_option_a_line(plan(CASES["linux-x86_64.s390x-tcg"], shared=True))
    assert "-pci" not in text
    assert "romfile" not in text


def test_comma_in_a_path_is_doubled() -> None:
    assert escape("a,b,,c") == "a,,b,,,,c"
    assert option("file", path=Path("/a,b")) == "file,path=/a,,b"


def test_option_drops_the_underscore_of_python_words() -> None:
    assert option(if_="none", unit=0) == "if=none,unit=0"


def test_resources_reach_the_command_line() -> None:
    record = make_record(cpus=3, memory_mib=1234, ssh_port=2345, mac="52:54:00:aa:bb:cc")
    argv = plan_launch(
        record,
        binary="qemu",
        hardware=new_hardware(record, Acceleration(accelerator=Accelerator.TCG, cpu="max"), []),
        relay=RELAY,
        firmware=None,
        files=make_launch_files(Path("/m")),
    ).argv
    text = one_option_a_line(argv).splitlines()
    assert "-smp 3" in text
    assert "-m 1234M" in text
    (netdev,) = [line for line in text if line.startswith("-netdev ")]
    assert ",hostfwd=tcp:127.0.0.1:2345-:22," in netdev
    assert "-device virtio-net-pci,netdev=net0,mac=52:54:00:aa:bb:cc,romfile=" in text
