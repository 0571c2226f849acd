"""Which words of `machine ssh` are the machine's name, and which are the command."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from machine.errors import NotFoundError
from machine.ops.ssh import split_words

DEFAULT = "podman-machine-default"


@pytest.mark.parametrize(
    ("words", "machines", "name", "command"),
    [
        ([], [DEFAULT], DEFAULT, []),
        (["box"], ["box"], "box", []),
        (["box", "ls", "-l"], ["box"], "box", ["ls", "-l"]),
        (["box", "--", "ls"], ["box"], "box", ["ls"]),
        (["ls", "box"], ["box", DEFAULT], DEFAULT, ["ls", "box"]),
        (["--", "ls"], [DEFAULT], DEFAULT, ["ls"]),
        (["box", "--", "--"], ["box"], "box", ["--"]),
    ],
)
def test_first_word_is_the_name_if_there_is_such_a_machine(
    words: Sequence[str], machines: Sequence[str], name: str, command: Sequence[str]
) -> None:
    assert split_words(words, machines) == (name, command)


@pytest.mark.parametrize(
    ("words", "machines", "line"),
    [
        (["uptime"], [], "uptime: VM does not exist; there are no machines; make one with: machine init"),
        (["cat", "/a b"], ["box", "web"],
         "cat: VM does not exist; to run a command, name one of the machines box, web: machine ssh NAME cat '/a b'"),
        ([], [], f"{DEFAULT}: VM does not exist; there are no machines; make one with: machine init"),
        ([], ["box", "web"],
         f"{DEFAULT}: VM does not exist; to open a shell, name one of the machines box, web: machine ssh NAME"),
        (["--", "ls"], ["box"],
         f"{DEFAULT}: VM does not exist; to run a command, name the machine: machine ssh box -- ls"),
        (["we", "ls"], ["box", "web"], "we: VM does not exist; did you mean web?"),
    ],
)  # fmt: skip
def test_word_that_is_no_machine_says_how_to_name_one(words: Sequence[str], machines: Sequence[str], line: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        split_words(words, machines)
    assert caught.value.line == line
