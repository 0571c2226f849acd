"""What `machine cp` copies and under which names (pure): the rules are those of podman and of scp -r."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from machine.errors import BadInputError

STANDARD_STREAM = "-"
CHUNK_BYTES = 32 * 1024  # what every SFTP server takes and gives in one request

_LONGEST_STEM = 200  # of the 255 bytes that a name may have
_SIDES = "write the machine's side as NAME:PATH, and a path of this host that has a colon as ./PATH"


class Kind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is kept of a file besides its content; `mode` without the kind, times in whole seconds, as SFTP has them."""

    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    accessed: int
    modified: int

    @property
    def kept_mode(self) -> int:
        """Without set-uid and set-gid, which mean another thing under another owner."""
        return self.mode & (0o1777 if self.kind is Kind.DIRECTORY else 0o777)


def kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER


class Files(Protocol):
    """The files of one side. Paths are as os.fsdecode has them; each call may raise MachineError."""

    def show(self, path: str) -> str:
        """The path for a message."""

    def stat(self, path: str) -> Facts | None:
        """What a path leads to; None for nothing."""

    def real(self, path: str) -> str:
        """The absolute path without links."""

    def entries(self, path: str) -> list[tuple[str, Facts]]:
        """What is in a directory, sorted, links as such."""

    def read(self, path: str, size: int) -> Generator[bytes]:
        """All of a file, in chunks; `size` is what it is expected to have."""

    def write(self, path: str, chunks: Iterable[bytes], facts: Facts, replaced: Facts | None) -> None:
        """A file that takes its name when it is whole; `replaced` is what has the name so far."""

    def make_directory(self, path: str) -> None:
        """A directory of the user's alone."""

    def set_facts(self, path: str, facts: Facts) -> None:
        """The mode and the times of a directory."""


@dataclass(frozen=True, kw_only=True)
class CopyRequest:
    """`source` and `destination` are paths, one of them in the guest; `-` as the other one is a standard stream."""

    machine: str
    source: str
    destination: str
    to_guest: bool


def parse_request(source: str, destination: str) -> CopyRequest:
    """Which side is a machine's, by podman's rule: what comes before the first colon, if not begun by a dot or slash.

    Raises:
        BadInputError: a path is missing, or not exactly one side is a machine's.
    """
    from_name, from_path = _parse_side(source)
    to_name, to_path = _parse_side(destination)
    if not from_path or not to_path:
        raise BadInputError(f'invalid arguments "{source}", "{destination}": you must specify paths')
    if from_name and to_name:
        raise BadInputError("copying between two machines is unsupported", hint=_SIDES)
    if not from_name and not to_name:
        raise BadInputError("a machine name must prefix either the source path or destination path", hint=_SIDES)
    return CopyRequest(
        machine=from_name or to_name,
        source=_guest_path(from_path) if from_name else from_path,
        destination=_guest_path(to_path) if to_name else to_path,
        to_guest=bool(to_name),
    )


def _parse_side(text: str) -> tuple[str, str]:
    """The machine's name, if there is one, and the path."""
    if text.startswith((".", "/")) or ":" not in text:
        return "", text
    name, _, path = text.partition(":")
    return name, path


def _guest_path(path: str) -> str:
    """`~` is the home directory, to which SFTP takes every path that is not absolute."""
    tilde, slash, rest = path.partition("/")
    if tilde == "~":
        return rest.lstrip("/") or "."
    if tilde.startswith("~"):
        raise BadInputError(
            f'the home directory "{tilde}" is not looked up',
            hint=f"write its whole path, or ./{path} for a file of that name",
        )
    return f"{tilde}{slash}{rest}"


def base_name(source: str) -> str:
    """The name under which a source appears in a directory; empty for `dir/.` and the like: what is in it appears."""
    name = source.rstrip("/").rpartition("/")[2]
    return "" if name in (".", "..") else name


def without_slashes(path: str) -> str:
    return path.rstrip("/") or "/"


def target_path(destination: str, shown: str, there: Facts | None, source: str, *, directory: bool) -> str:
    """Where the source goes: into a directory that is `there`, else it takes the destination's own name.

    Raises:
        BadInputError: a file of the destination is in the way, or a directory is missing.
    """
    plain = without_slashes(destination)
    if there is None:
        if not directory and destination.endswith("/"):
            raise BadInputError(f"{shown} does not exist: a file can be copied into a directory that does")
        return plain
    if there.kind is Kind.DIRECTORY:
        if name := base_name(source):
            return posixpath.join(plain, name)
        return plain
    if directory or destination.endswith("/"):
        raise BadInputError(f'"{shown}" exists but is not a directory')
    return plain


def in_the_way(there: Facts, shown: str, *, directory: bool) -> BadInputError | None:
    """Why a file, or a directory, cannot take a name that is taken."""
    if directory:
        return None if there.kind is Kind.DIRECTORY else BadInputError(f'"{shown}" exists but is not a directory')
    if there.kind is Kind.DIRECTORY:
        return BadInputError(f'"{shown}" is a directory, which a file cannot replace')
    return not_regular(shown) if there.kind is not Kind.FILE else None


def not_regular(shown: str) -> BadInputError:
    return BadInputError(
        f'"{shown}" is neither a regular file nor a directory', hint="for standard input and output there is -"
    )


def below(directory: str, name: str) -> str:
    """`name` in `directory`; an empty one is the directory itself."""
    return posixpath.join(directory, name) if name else directory


def part_path(path: str, token: str) -> str:
    """The name that a file has while it is written, in the same directory."""
    directory, name = posixpath.split(path)
    stem = os.fsencode(name)[:_LONGEST_STEM].decode(errors="ignore")
    return below(directory, f".{stem}.part-{token}")


def printable(path: str) -> str:
    """A path in one line of any terminal, whatever bytes it has."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
