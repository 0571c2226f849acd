"""What is said to a guest whose record has changed, and what is made of its answer."""

from __future__ import annotations

import pytest

from machine.model.units import GIB
from machine.ops.tell_guest import guest_command, size_notice
from tests.builders import make_config


def test_words_survive_the_shell_of_the_guest() -> None:
    assert guest_command(make_config("a_b", rootful=True)) == [
        "sh", "-s", "--", "a-b", "'L+  /run/docker.sock   -    -    -     -   /run/podman/podman.sock'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "notice"),
    [
        (f"growing\n {19 * GIB}\n", ""),
        (f"{8 * GIB}\n", "The guest's root file system has 8GiB of a disk of 20 GiB: it has not grown"),
        ("", "The guest does not tell how large its root file system is"),
        ("df: no such file\n", "The guest does not tell how large its root file system is"),
    ],
)
def test_root_that_did_not_grow_is_told(said: str, notice: str) -> None:
    assert size_notice(said, 20) == notice
