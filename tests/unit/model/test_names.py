"""The names that a person may give, with the texts that podman machine has."""

from __future__ import annotations

import pytest

from machine.errors import BadInputError
from machine.model.names import check_machine_name, check_username

RULE = "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"


@pytest.mark.parametrize("name", ["a", "0", "podman-machine-default", "A_b.c-1", "x" * 30])
def test_machine_name_that_follows_the_rule(name: str) -> None:
    assert check_machine_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", f'invalid name "": {RULE}'),
        ("a/b", f'invalid name "a/b": {RULE}'),
        ("../up", f'invalid name "../up": {RULE}'),
        (".hidden", f'invalid name ".hidden": {RULE}'),
        ("-flag", f'invalid name "-flag": {RULE}'),
        ("a b", f'invalid name "a b": {RULE}'),
        ("a\n", f'invalid name "a\n": {RULE}'),
        ("café", f'invalid name "café": {RULE}'),
        ("x" * 31, f'machine name "{"x" * 31}" must be 30 characters or less'),
        ("qemu", 'cannot use "qemu" for a machine name'),
        ("wsl", 'cannot use "wsl" for a machine name'),
    ],
)
def test_machine_name_that_breaks_the_rule(name: str, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_machine_name(name)
    assert caught.value.line == message


def test_username_that_follows_the_rule() -> None:
    assert check_username("joerg.b-2") == "joerg.b-2"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", f'invalid username "": {RULE}'),
        ("a:b", f'invalid username "a:b": {RULE}'),
        ("$(reboot)", f'invalid username "$(reboot)": {RULE}'),
        ("root", 'invalid username "root": root always exists in the guest; use --rootful'),
    ],
)
def test_username_that_breaks_the_rule(name: str, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_username(name)
    assert caught.value.line == message
