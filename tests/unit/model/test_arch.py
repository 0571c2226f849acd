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
        ("riscv64", Arch.RISCV64),
        ("s390x", Arch.S390X),
        ("ppc64le", Arch.PPC64LE),
        ("ppc64el", Arch.PPC64LE),
    ],
)
def test_architecture_by_any_of_its_names(name: str, arch: Arch) -> None:
    assert Arch.parse(name) is arch


@pytest.mark.parametrize("name", ["sparc64", "ppc64", "arm", "", "x86-64"])
def test_unknown_architecture_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'"):
        Arch.parse(name)


def test_names_of_go_and_debian() -> None:
    assert [arch.go for arch in Arch] == ["amd64", "arm64", "riscv64", "s390x", "ppc64le"]
    assert [arch.debian for arch in Arch] == ["amd64", "arm64", "riscv64", "s390x", "ppc64el"]
