"""What a user may give a new guest."""

from __future__ import annotations

import pytest

from machine.errors import BadInputError
from machine.model.first_boot import check_hostname, has_label, is_ssh_key, parse_labels, parse_variables

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNhbm5vdCBiZSBhIHJlYWwga2V5"


def test_variables_are_sorted_and_the_last_of_a_name_holds() -> None:
    assert parse_variables(["B=2", "A=1=1", "HERE", "B="], {"HERE": "yes"}) == (
        ("A", "1=1"),
        ("B", ""),
        ("HERE", "yes"),
    )


@pytest.mark.parametrize("text", ["", "=a", "1A=b", "A B=c", "NOT_SET", "A=b\nc", "A=\0", "A=\udcff"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_variables([text], {})


def test_labels() -> None:
    assert parse_labels(["team=a b", "org.example/x", "team=c"]) == (("org.example/x", ""), ("team", "c"))


@pytest.mark.parametrize("text", ["", "=a", "a b=c", "-a=b", "a=b\nc", "a=\udcff"])
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_labels([text])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("team", True),
        ("team=c", True),
        ("team=", False),
        ("team=d", False),
        ("tea", False),
        ("flag", True),
        ("flag=", True),
    ],
)
def test_labels_are_found_by_key_or_by_both(wanted: str, found: bool) -> None:
    assert has_label((("flag", ""), ("team", "c")), wanted) is found


@pytest.mark.parametrize("name", ["a", "box.example.org", "A-1", "a" * 63])
def test_host_names(name: str) -> None:
    assert check_hostname(name) == name


@pytest.mark.parametrize("name", ["", "a_b", "-a", "a-", "a..b", ".a", "a b", "a" * 64, ".".join("a" * 40), "ä"])
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(BadInputError):
        check_hostname(name)


@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        (KEY, True),
        (f"{KEY} me@host", True),
        ("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t", True),
        ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY=", True),
        ("ssh-ed25519", False),
        ("~/.ssh/id_ed25519.pub", False),
        (f'command="id" {KEY}', False),
        (f"{KEY}\n{KEY}", False),
        (f"{KEY} \udcff", False),
        (KEY[:-1], False),
        (KEY.replace("ed25519", "rsa"), False),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", False),
    ],
)
def test_public_keys(text: str, is_key: bool) -> None:
    assert is_ssh_key(text) is is_key
