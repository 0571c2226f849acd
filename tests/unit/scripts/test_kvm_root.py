"""The recipe of the file system in which the tests run on KVM."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.model.arch import Arch
from scripts.kvm_root import packages, recipe_key, root_argv, wheels_argv


@pytest.mark.parametrize(
    ("arch", "debian", "qemu", "platform"),
    [
        (Arch.X86_64, "amd64", {"qemu-system-x86"}, "manylinux_2_28_x86_64"),
        (Arch.AARCH64, "arm64", {"qemu-system-arm", "qemu-efi-aarch64"}, "manylinux_2_28_aarch64"),
    ],
)
def test_host_gets_programs_of_its_own_architecture(arch: Arch, debian: str, qemu: set[str], platform: str) -> None:
    assert {word for word in packages(arch) if word.startswith("qemu-")} == {"qemu-utils", *qemu}
    assert f"--architectures={debian}" in root_argv(arch, Path("/f"), Path("/i"))
    assert f"--platform={platform}" in wheels_argv(arch, Path("/d"))


def test_python_packages_are_the_locked_ones_of_this_checkout() -> None:
    words = wheels_argv(Arch.X86_64, Path("/d"))
    assert "--require-hashes" in words
    assert words[words.index("--requirement") + 1].endswith("/requirements/dev.lock")


def test_each_architecture_has_its_own_file_system() -> None:
    assert recipe_key(Arch.X86_64) == recipe_key(Arch.X86_64) != recipe_key(Arch.AARCH64)
