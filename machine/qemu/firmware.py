"""UEFI firmware for boards that need it, from the places where distributions keep it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from machine.errors import MachineError
from machine.files import atomic_writer
from machine.model.arch import Arch


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """The code, mapped read-only, and the template of the variables that each machine has its own copy of."""

    code: Path
    variables: Path


# Debian, Fedora, Arch, Homebrew on either kind of Mac; sources: the packages' file lists.
CANDIDATES = {
    Arch.AARCH64: (
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        (
            "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
            "/usr/share/edk2/aarch64/vars-template-pflash.raw",
        ),
        ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
        ("/opt/homebrew/share/qemu/edk2-aarch64-code.fd", "/opt/homebrew/share/qemu/edk2-arm-vars.fd"),
        ("/usr/local/share/qemu/edk2-aarch64-code.fd", "/usr/local/share/qemu/edk2-arm-vars.fd"),
    ),
    Arch.X86_64: (("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),),
}


def find_firmware(arch: Arch) -> Firmware:
    """The first firmware of the table that is on this host.

    Raises:
        MachineError: there is none.
    """
    for code, variables in CANDIDATES[arch]:
        if Path(code).exists() and Path(variables).exists():
            return Firmware(code=Path(code), variables=Path(variables))
    raise MachineError(f"no UEFI firmware for {arch} guests on this host", hint=f"install it (Debian: qemu-efi-{arch})")


def ensure_variables(firmware: Firmware, path: Path) -> None:
    """Give a machine its own variables, once."""
    if path.exists():
        return
    with firmware.variables.open("rb") as source, atomic_writer(path) as target:
        shutil.copyfileobj(source, target)
