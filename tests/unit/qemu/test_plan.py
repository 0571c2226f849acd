"""QEMU's whole command line for every pair of host and guest, against files that a person can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine.model.arch import Arch
from machine.model.host import Accelerator
from machine.qemu.firmware import Firmware
from machine.qemu.plan import escape, option, plan_launch
from tests.builders import RELAY, make_config, make_launch_files

GOLDEN = Path(__file__).with_name("golden")

DEBIAN_UEFI = Firmware(code=Path("/usr/share/AAVMF/AAVMF_CODE.fd"), variables=Path("/usr/share/AAVMF/AAVMF_VARS.fd"))
HOMEBREW_UEFI = Firmware(
    code=Path("/opt/homebrew/share/qemu/edk2-aarch64-code.fd"),
    variables=Path("/opt/homebrew/share/qemu/edk2-arm-vars.fd"),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    arch: Arch
    accelerator: Accelerator
    prefix: str = "/usr/bin"
    firmware: Firmware | None = None
    home: str = "/home/me/.local/share/boot2podman"
    usbs: tuple[str, ...] = ()


MAC_HOME = "/Users/me/Library/Application Support/boot2podman"

CASES = {
    "linux-x86_64-kvm": Case(arch=Arch.X86_64, accelerator=Accelerator.KVM),
    "linux-x86_64-tcg": Case(arch=Arch.X86_64, accelerator=Accelerator.TCG),
    "linux-aarch64-kvm": Case(arch=Arch.AARCH64, accelerator=Accelerator.KVM, firmware=DEBIAN_UEFI),
    "linux-aarch64-tcg": Case(arch=Arch.AARCH64, accelerator=Accelerator.TCG, firmware=DEBIAN_UEFI),
    "darwin-arm64-hvf": Case(
        arch=Arch.AARCH64,
        accelerator=Accelerator.HVF,
        prefix="/opt/homebrew/bin",
        firmware=HOMEBREW_UEFI,
        home=MAC_HOME,
    ),
    "darwin-x86_64-hvf": Case(arch=Arch.X86_64, accelerator=Accelerator.HVF, prefix="/usr/local/bin", home=MAC_HOME),
    "darwin-arm64-foreign-x86_64-tcg": Case(
        arch=Arch.X86_64, accelerator=Accelerator.TCG, prefix="/opt/homebrew/bin", home=MAC_HOME
    ),
    "linux-x86_64-kvm-usb": Case(
        arch=Arch.X86_64, accelerator=Accelerator.KVM, usbs=("bus=1,devnum=12", "vendor=046d,product=c52b")
    ),
    "linux-x86_64-tcg-comma-and-space": Case(
        arch=Arch.X86_64, accelerator=Accelerator.TCG, home="/srv/my machines, all of them"
    ),
}


def plan(case: Case, *, provisioned: bool) -> tuple[str, ...]:
    return plan_launch(
        make_config(arch=case.arch, provisioned=provisioned, usbs=case.usbs),
        binary=f"{case.prefix}/qemu-system-{case.arch}",
        accelerator=case.accelerator,
        relay=RELAY,
        firmware=case.firmware,
        files=make_launch_files(Path(case.home)),
    ).argv


def one_option_a_line(argv: Sequence[str]) -> str:
    """The binary, then each option with its value."""
    lines: list[str] = []
    for word in argv:
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("moment", ["first-boot", "provisioned"])
def test_command_line_is_the_golden_one(name: str, moment: str, matches_golden: Callable[[str, Path], None]) -> None:
    argv = plan(CASES[name], provisioned=moment == "provisioned")
    matches_golden(one_option_a_line(argv), GOLDEN / f"{name}.{moment}.args")


def test_every_golden_file_has_its_case() -> None:
    expected = {f"{name}.{moment}.args" for name in CASES for moment in ("first-boot", "provisioned")}
    assert {path.name for path in GOLDEN.iterdir()} == expected


def test_guest_gets_its_private_keys_only_until_it_is_provisioned() -> None:
    case = CASES["linux-x86_64-tcg"]
    assert any("config.ign" in word for word in plan(case, provisioned=False))
    assert not any("config.ign" in word for word in plan(case, provisioned=True))


def test_comma_in_a_path_is_doubled() -> None:
    assert escape("a,b,,c") == "a,,b,,,,c"
    assert option("file", path=Path("/a,b")) == "file,path=/a,,b"


def test_option_drops_the_underscore_of_python_words() -> None:
    assert option(if_="none", unit=0) == "if=none,unit=0"


def test_resources_reach_the_command_line() -> None:
    argv = plan_launch(
        make_config(cpus=3, memory_mib=1234, ssh_port=2345, mac="52:54:00:aa:bb:cc"),
        binary="qemu",
        accelerator=Accelerator.TCG,
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
