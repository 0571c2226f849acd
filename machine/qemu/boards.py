"""How QEMU makes a computer of each guest architecture: adding one is adding a row."""

from __future__ import annotations

from dataclasses import dataclass

from machine.model.arch import Arch
from machine.model.host import Accelerator


@dataclass(frozen=True, kw_only=True)
class Board:
    """`debian_package` and `homebrew_formula` are what to install when the binary is missing.

    `tcg_cpu` is the CPU model without hardware help: a plain `qemu64` lacks what today's distributions need.
    """

    binary: str
    debian_package: str
    machine: str
    tcg_cpu: str
    needs_uefi: bool

    def cpu(self, accelerator: Accelerator) -> str:
        return self.tcg_cpu if accelerator is Accelerator.TCG else "host"


BOARDS = {
    Arch.X86_64: Board(
        binary="qemu-system-x86_64",
        debian_package="qemu-system-x86",
        machine="q35,vmport=off",
        tcg_cpu="max",
        needs_uefi=False,
    ),
    Arch.AARCH64: Board(
        binary="qemu-system-aarch64",
        debian_package="qemu-system-arm",
        machine="virt,gic-version=max",
        # Pointer authentication by QEMU's own algorithm: the architected one halves the speed of TCG.
        tcg_cpu="max,pauth-impdef=on",
        needs_uefi=True,
    ),
}
