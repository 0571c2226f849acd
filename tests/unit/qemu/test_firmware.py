"""Firmware by descriptors and by names, in directories of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.host import Host, HostOS, Installer
from machine.qemu.boards import BOARDS
from machine.qemu.firmware import described_files, find_firmware, firmware_directories, read_descriptors
from tests.support.builders import make_host

BOARD = BOARDS[Arch.AARCH64]


def descriptor(code: str = "/code.fd", variables: str = "/vars.fd", **fields: Any) -> dict[str, Any]:
    """One as QEMU's and Debian's are."""
    mapping = {
        "device": "flash",
        "executable": {"filename": code, "format": "raw"},
        "nvram-template": {"filename": variables, "format": "raw"},
    }
    return {
        "description": "UEFI firmware for aarch64",
        "interface-types": ["uefi"],
        "mapping": mapping,
        "targets": [{"architecture": "aarch64", "machines": ["virt-*"]}],
        "features": ["verbose-static"],
        "tags": [],
        **fields,
    }


def flash(**fields: Any) -> dict[str, Any]:
    mapping: dict[str, Any] = descriptor()["mapping"]
    return {**mapping, **fields}


def test_descriptor_of_the_board_gives_its_files() -> None:
    files = described_files(descriptor(), BOARD)
    assert files is not None
    assert (files.code, files.variables) == (Path("/code.fd"), Path("/vars.fd"))
    assert (files.code_format, files.variables_format) == ("raw", "raw")


def test_format_of_the_files_is_taken_over() -> None:
    files = described_files(descriptor(mapping=flash(executable={"filename": "/c", "format": "qcow2"})), BOARD)
    assert files is not None
    assert (files.code_format, files.variables_format) == ("qcow2", "raw")


@pytest.mark.parametrize("machines", [["virt"], ["virt*"], ["pc-*", "virt-*"]])
def test_machine_is_matched_with_and_without_its_version(machines: list[str]) -> None:
    assert described_files(descriptor(targets=[{"architecture": "aarch64", "machines": machines}]), BOARD)


@pytest.mark.parametrize(
    "fields",
    [
        {"interface-types": ["bios"]},
        {"targets": [{"architecture": "arm", "machines": ["virt-*"]}]},
        {"targets": [{"architecture": "aarch64", "machines": ["sbsa-ref"]}]},
        {"targets": []},
        {"features": ["secure-boot"]},
        {"features": ["enrolled-keys"]},
        {"features": ["requires-smm"]},
        {"mapping": {"device": "memory", "filename": "/efi.bin"}},
        {"mapping": flash(mode="stateless")},
        {"mapping": {"device": "flash", "executable": {"filename": "/code", "format": "raw"}}},
        {"mapping": "flash"},
        {"targets": "all"},
        {"features": None},
    ],
)
def test_descriptor_of_something_else_is_passed_over(fields: dict[str, Any]) -> None:
    assert described_files(descriptor(**fields), BOARD) is None


def write(directory: Path, name: str, content: dict[str, Any] | str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_descriptors_are_sorted_by_name_over_all_directories(tmp_path: Path) -> None:
    write(tmp_path / "general", "60-b.json", {"description": "b"})
    write(tmp_path / "special", "50-a.json", {"description": "a"})
    write(tmp_path / "special", "70-c.txt", {"description": "not a descriptor"})
    found = read_descriptors([tmp_path / "general", tmp_path / "special", tmp_path / "missing"])
    assert [entry["description"] for entry in found] == ["a", "b"]


def test_special_directory_replaces_and_hides_what_a_general_one_has(tmp_path: Path) -> None:
    write(tmp_path / "general", "50-a.json", {"description": "the package's"})
    write(tmp_path / "general", "60-b.json", {"description": "hidden"})
    write(tmp_path / "general", "70-broken.json", "{")
    write(tmp_path / "general", "80-list.json", "[]")
    write(tmp_path / "special", "50-a.json", {"description": "the user's"})
    write(tmp_path / "special", "60-b.json", "")
    found = read_descriptors([tmp_path / "general", tmp_path / "special"])
    assert [entry["description"] for entry in found] == ["the user's"]


def test_directories_go_from_the_general_to_the_special(tmp_path: Path) -> None:
    cellar = tmp_path / "Cellar" / "qemu" / "10.1.2" / "bin"
    cellar.mkdir(parents=True)
    (cellar / "qemu-system-aarch64").touch()
    linked = tmp_path / "bin"
    linked.mkdir()
    (linked / "qemu-system-aarch64").symlink_to(cellar / "qemu-system-aarch64")
    mac = make_host(HostOS.MACOS, "arm64")
    assert firmware_directories(linked / "qemu-system-aarch64", mac, Path("/Users/me/.config")) == (
        Path("/opt/local/share/qemu/firmware"),
        Path("/usr/local/share/qemu/firmware"),
        Path("/opt/homebrew/share/qemu/firmware"),
        cellar.parent / "share/qemu/firmware",
        tmp_path / "share/qemu/firmware",
        Path("/etc/qemu/firmware"),
        Path("/Users/me/.config/qemu/firmware"),
    )


def test_distributions_own_qemu_adds_no_directory() -> None:
    found = firmware_directories(Path("/usr/bin/none"), make_host(), Path("/home/me/.config"))
    assert found == tuple(
        map(Path, ("/usr/share/qemu/firmware", "/etc/qemu/firmware", "/home/me/.config/qemu/firmware"))
    )


def touched(directory: Path, *names: str) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / name for name in names]
    for path in paths:
        path.touch()
    return paths


def test_users_descriptor_wins_and_files_that_are_missing_are_passed_over(tmp_path: Path) -> None:
    code, variables = touched(tmp_path / "mine", "code.fd", "vars.fd")
    config = tmp_path / "config"
    write(config / "qemu/firmware", "00-gone.json", descriptor("/nowhere/code.fd", str(variables)))
    write(config / "qemu/firmware", "01-gone.json", descriptor(str(code), "/nowhere/vars.fd"))
    write(config / "qemu/firmware", "02-mine.json", descriptor(str(code), str(variables)))
    files = find_firmware(Arch.AARCH64, make_host(), binary=str(tmp_path / "bin/qemu"), config_home=config)
    assert files is not None
    assert (files.code, files.variables) == (code, variables)


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        (Arch.AARCH64, ("edk2-aarch64-code.fd", "edk2-arm-vars.fd")),
        (Arch.RISCV64, ("edk2-riscv-code.fd", "edk2-riscv-vars.fd")),
    ],
)
def test_firmware_that_qemu_ships_is_found_without_a_descriptor(
    arch: Arch, names: tuple[str, str], tmp_path: Path, no_system_firmware: None
) -> None:
    expected = touched(tmp_path / "homebrew/share/qemu", *names)
    mac = make_host(HostOS.MACOS, "x86_64")
    files = find_firmware(arch, mac, binary=str(tmp_path / "homebrew/bin/qemu"), config_home=tmp_path)
    assert files is not None
    assert [files.code, files.variables] == expected


@pytest.mark.parametrize("arch", [Arch.X86_64, Arch.S390X, Arch.PPC64LE])
def test_board_with_firmware_of_its_own_needs_none(arch: Arch, tmp_path: Path, no_system_firmware: None) -> None:
    assert find_firmware(arch, make_host(), binary="/nowhere/bin/qemu", config_home=tmp_path) is None


@pytest.fixture
def no_system_firmware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of absolute paths, only those below the test's own directory are there."""
    real = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.is_relative_to(tmp_path) and real(path))


@pytest.mark.parametrize(
    ("arch", "host", "hint"),
    [
        (Arch.AARCH64, make_host(), "install it with: sudo apt install qemu-efi-aarch64"),
        (Arch.RISCV64, make_host(), "install it with: sudo apt install qemu-efi-riscv64"),
        (Arch.AARCH64, make_host(installer=Installer.DNF), "install it with: sudo dnf install edk2-aarch64"),
        (Arch.AARCH64, make_host(installer=Installer.PACMAN), "install it with: sudo pacman -S edk2-aarch64"),
        (Arch.AARCH64, make_host(installer=Installer.ZYPPER), "install it with: sudo zypper install qemu-uefi-aarch64"),
        (Arch.AARCH64, make_host(HostOS.MACOS, "arm64"), "install it with: brew install qemu"),
        (Arch.AARCH64, make_host(installer=None), "install EDK II for QEMU's machine virt"),
    ],
)
def test_no_firmware_is_told_with_what_to_install(
    arch: Arch, host: Host, hint: str, tmp_path: Path, no_system_firmware: None
) -> None:
    with pytest.raises(MachineError) as caught:
        find_firmware(arch, host, binary="/nowhere/bin/qemu", config_home=tmp_path)
    assert caught.value.line == f"no UEFI firmware for {arch} guests on this host; {hint}"
