"""The command line of `scripts/test kvm`, and how it notices that the emulated host has ended."""

from __future__ import annotations

import pytest

from machine.model.arch import Arch
from scripts.kvm import has_ended, parse


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


@pytest.mark.parametrize(
    ("state", "console", "ended"),
    [
        ("running", "host login: \n", False),
        ("degraded", "host login: \n", False),
        ("stopped", "host login: \n", True),
        ("degraded", "[ 9.1] Kernel panic - not syncing: corrupted stack end detected inside scheduler\n", True),
    ],
)
def test_emulated_host_has_ended_when_it_is_off_or_its_kernel_has_panicked(
    state: str, console: str, ended: bool
) -> None:
    assert has_ended(state, console) is ended
