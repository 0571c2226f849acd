"""What a user may give a new guest: variables, keys of SSH, a host name, labels (pure)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping

from machine.errors import BadInputError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?")
_SSH_KEY = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]{16,}={0,3}( .*)?")
# Surrogates are what Python makes of bytes that are no UTF-8.
_NO_LINE = re.compile(r"[\0\r\n\ud800-\udfff]")
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

# Linux's HOST_NAME_MAX.
_MAX_HOST_NAME = 64

USER_PREFIX = "user:"
"""Before the path of a script that the guest's user is to run; otherwise root does."""


def parse_variables(texts: Iterable[str], host: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Variables from `NAME=VALUE`; a NAME alone takes the value that it has on the host, as podman run does.

    Raises:
        BadInputError: one of them cannot be a variable, or is not set on the host.
    """

    def parse(text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not _VARIABLE.fullmatch(name):
            raise BadInputError(f'invalid variable "{text}"', hint="give NAME=VALUE, of letters, digits and _ in NAME")
        if not equals and name not in host:
            raise BadInputError(f"the variable {name} is not set on this host", hint=f"give {name}=VALUE")
        value = value if equals else host[name]
        if _NO_LINE.search(value):
            raise BadInputError(f"the value of the variable {name} must be one line in UTF-8")
        return name, value

    return _last_of_each(texts, parse)


def parse_labels(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Labels from `KEY=VALUE` or `KEY`.

    Raises:
        BadInputError: one of them cannot be a label.
    """

    def parse(text: str) -> tuple[str, str]:
        key, _, value = text.partition("=")
        if not _LABEL.fullmatch(key) or _NO_LINE.search(value):
            raise BadInputError(f'invalid label "{text}"', hint="give KEY=VALUE, of letters, digits and _ . / - in KEY")
        return key, value

    return _last_of_each(texts, parse)


def _last_of_each(texts: Iterable[str], parse: Callable[[str], tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Sorted by name; of one that stands twice, the last holds."""
    return tuple(sorted(dict(map(parse, texts)).items()))


def has_label(labels: Iterable[tuple[str, str]], wanted: str) -> bool:
    """Whether `KEY`, or exactly `KEY=VALUE`, is among the labels."""
    key, equals, value = wanted.partition("=")
    return any(own == key and (not equals or text == value) for own, text in labels)


def check_hostname(text: str) -> str:
    """Raises:
    BadInputError: no host can be called that.
    """
    if len(text) > _MAX_HOST_NAME or not all(_HOST_LABEL.fullmatch(label) for label in text.split(".")):
        raise BadInputError(
            f'invalid hostname "{text}"',
            hint="give letters, digits and hyphens, with dots between parts, 64 characters at most",
        )
    return text


def is_ssh_key(text: str) -> bool:
    """Whether it is a public key as one line of authorized_keys has it, without options."""
    if not _SSH_KEY.fullmatch(text) or _NO_LINE.search(text):
        return False
    kind, encoded, *_ = text.split(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    # RFC 4253, 6.6: the name once more, after its length.
    return blob.startswith(len(kind).to_bytes(4, "big") + kind.encode())
