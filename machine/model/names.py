"""Check the names that users choose. The messages are podman machine's, because scripts match them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from machine.errors import BadInputError
from machine.model.provider import Provider

DEFAULT_MACHINE = "podman-machine-default"
MAX_NAME_LENGTH = 30
PROVIDER_VARIABLE = "CONTAINERS_MACHINE_PROVIDER"
RESERVED_NAMES = frozenset({"qemu", "wsl", "applehv", "hyperv", "libkrun"})

_MAX_USERNAME_LENGTH = 32  # the limit of useradd
_SYSTEM_USERS = frozenset(
    {"adm", "bin", "daemon", "dbus", "ftp", "games", "halt", "lp", "mail", "messagebus", "nobody", "operator"}
    | {"polkitd", "shutdown", "sshd", "sync", "sys"}
)  # fmt: skip

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_RULE = "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"


def check_machine_name(name: str) -> str:
    """Check that a machine can have this name, and return the name.

    Raises:
        BadInputError: the name is too long, is reserved, or contains a character that names cannot have.
    """
    check_name_form(name)
    if name in RESERVED_NAMES:
        raise BadInputError(f'cannot use "{name}" for a machine name')
    return name


def check_name_form(name: str) -> None:
    """Check the length and the characters of a machine's name.

    Raises:
        BadInputError: the name is too long, or contains a character that names cannot have.
    """
    check_form(name, of="machine")


def check_form(name: str, *, of: str) -> None:
    """Check the length and the characters of a name. `of` says what the name belongs to.

    Raises:
        BadInputError: the name is too long, or contains a character that names cannot have.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise BadInputError(f'{of} name "{name}" must be {MAX_NAME_LENGTH} characters or less')
    if not _NAME.fullmatch(name):
        raise BadInputError(f'invalid name "{name}": {_RULE}')


def parse_provider(name: str) -> Provider:
    """Return the provider of this name.

    Raises:
        BadInputError: no provider that is supported has this name.
    """
    try:
        return Provider(name)
    except ValueError as error:
        raise BadInputError(
            f'unsupported provider "{name}"', hint=f"the providers are {' and '.join(Provider)}"
        ) from error


def check_username(name: str) -> str:
    """Check that the guest's user can have this name, and return the name.

    Raises:
        BadInputError: the name is too long, belongs to a system user of the guest, or contains a character that
            names cannot have.
    """
    if len(name) > _MAX_USERNAME_LENGTH:
        raise BadInputError(f'username "{name}" must be {_MAX_USERNAME_LENGTH} characters or less')
    if not _NAME.fullmatch(name):
        raise BadInputError(f'invalid username "{name}": {_RULE}')
    if name == "root":
        raise BadInputError('invalid username "root": root always exists in the guest', hint="use --rootful")
    if name in _SYSTEM_USERS:
        raise BadInputError(f'invalid username "{name}": a system user of the guest has that name')
    return name


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return "; did you mean …?" for the end of an error message, or an empty string if no known word is similar."""
    near = similar_words(word, known)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def similar_words(word: str, known: Sequence[str]) -> list[str]:
    """Return the known words that are similar to `word`, or begin with it."""
    import difflib

    lower = word.lower()
    closest = difflib.get_close_matches(lower, known, cutoff=0.75)
    return list(dict.fromkeys([*closest, *(name for name in known if lower and name.startswith(lower))]))
