"""The command line of `scripts/test kvm`."""

from __future__ import annotations

import pytest

from machine.model.arch import Arch
from scripts.kvm import parse


@pytest.mark.parametrize(
    ("words", "arch", "keeps", "rest"),
    [
        ([], Arch.X86_64, False, []),
        (["amd64", "-x"], Arch.X86_64, False, ["-x"]),
        (["-k", "folder"], Arch.X86_64, False, ["-k", "folder"]),
        (["aarch64", "--shell", "-k", "folder"], Arch.AARCH64, True, ["-k", "folder"]),
    ],
)
def test_first_word_may_be_an_architecture_and_the_rest_is_for_pytest(
    words: list[str], arch: Arch, keeps: bool, rest: list[str]
) -> None:
    assert parse(words) == (arch, keeps, rest)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("sparc", "Error: unknown architecture; choose one of: x86_64, aarch64"),
        ("s390x", "Error: there is no KVM in an emulated s390x host; choose one of: x86_64, aarch64"),
    ],
)
def test_other_architectures_are_refused(word: str, line: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([word])
    assert caught.value.code == line
