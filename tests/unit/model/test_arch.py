from __future__ import annotations

import pytest

from machine.model.arch import Arch


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("x86_64", Arch.X86_64),
        ("AMD64", Arch.X86_64),
        ("x64", Arch.X86_64),
        ("arm64", Arch.AARCH64),
        ("aarch64", Arch.AARCH64),
    ],
)
def test_architecture_by_any_of_its_names(name: str, arch: Arch) -> None:
    assert Arch.parse(name) is arch


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        Arch.parse("riscv64")
