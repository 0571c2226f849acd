"""Parse what a user can add to a new guest: variables, SSH keys, a host name and labels (pure)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping

from machine.errors import BadInputError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?")
_SSH_KEY = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]{16,}={0,3}( .*)?")
# Python represents bytes that are not UTF-8 by surrogates.
_NOT_ONE_LINE = re.compile(r"[\0\r\n\ud800-\udfff]")
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

# Linux's HOST_NAME_MAX.
_MAX_HOST_NAME = 64

USER_PREFIX = "user:"
"""The prefix of a script's path, if the guest's user is to run the script instead of root."""


def parse_variables(texts: Iterable[str], host: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Parse variables from `NAME=VALUE`. A NAME alone takes its value from the host, as in `podman run`.

    Raises:
        BadInputError: a text is not a variable, or a variable is not set on the host.
    """

    def parse(text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not _VARIABLE.fullmatch(name):
            raise BadInputError(
                f'invalid variable "{text}"', hint="write NAME=VALUE; NAME may contain letters, digits and _"
            )
        if not equals and name not in host:
            raise BadInputError(f"the variable {name} is not set on this host", hint=f"write {name}=VALUE")
        value = value if equals else host[name]
        if _NOT_ONE_LINE.search(value):
            raise BadInputError(f"the value of the variable {name} must be a single line of UTF-8")
        return name, value

    return _last_of_each(texts, parse)


def parse_labels(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Parse labels from `KEY=VALUE` or `KEY`.

    Raises:
        BadInputError: a text is not a label.
    """

    def parse(text: str) -> tuple[str, str]:
        key, _, value = text.partition("=")
        if not _LABEL.fullmatch(key) or _NOT_ONE_LINE.search(value):
            raise BadInputError(
                f'invalid label "{text}"', hint="write KEY=VALUE; KEY may contain letters, digits and _ . / -"
            )
        return key, value

    return _last_of_each(texts, parse)


def _last_of_each(texts: Iterable[str], parse: Callable[[str], tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Parse each text and sort the results by name. If a name is given twice, its last value counts."""
    return tuple(sorted(dict(map(parse, texts)).items()))


def has_label(labels: Iterable[tuple[str, str]], wanted: str) -> bool:
    """Return whether `labels` has the label `wanted`, which is KEY=VALUE, or KEY for any value."""
    key, equals, value = wanted.partition("=")
    return any(own == key and (not equals or text == value) for own, text in labels)


def check_hostname(text: str) -> str:
    """Check the host name `text`, and return it.

    Raises:
        BadInputError: `text` is too long, or has parts that host names cannot have.
    """
    if len(text) > _MAX_HOST_NAME or not all(_HOST_LABEL.fullmatch(label) for label in text.split(".")):
        raise BadInputError(
            f'invalid hostname "{text}"',
            hint="use letters, digits, hyphens and dots, at most 64 characters",
        )
    return text


def is_ssh_key(text: str) -> bool:
    """Return whether the text is a public key in the format of authorized_keys, without options."""
    if not _SSH_KEY.fullmatch(text) or _NOT_ONE_LINE.search(text):
        return False
    kind, encoded, *_ = text.split(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    # RFC 4253, 6.6: the blob begins with the length and the name of the key type.
    return blob.startswith(len(kind).to_bytes(4, "big") + kind.encode())
