"""Decide what `machine cp` copies to which paths, by the rules of podman and of scp -r (pure)."""

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
CHUNK_BYTES = 32 * 1024  # the size of the largest request that every SFTP server accepts

_MAX_STEM_BYTES = 200  # leaves room for the rest of a name of 255 bytes
_SIDES = "write the machine's side as NAME:PATH, and a local path that contains a colon as ./PATH"


class Kind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """The metadata of a file, which its copy gets, too. `mode` lacks the file type. Times are in whole seconds."""

    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    accessed: int
    modified: int

    @property
    def kept_mode(self) -> int:
        """The mode without the set-uid and set-gid bits, because the copy may have another owner."""
        return self.mode & (0o1777 if self.kind is Kind.DIRECTORY else 0o777)


def kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER


class Files(Protocol):
    """The files on one side of a copy, which is either this host or a guest.

    Paths are as os.fsdecode returns them. Every method may raise MachineError.
    """

    def show(self, path: str) -> str:
        """Return the path as messages show it."""

    def stat(self, path: str) -> Facts | None:
        """Follow links, and return the metadata of what the path leads to, or None if nothing exists there."""

    def real(self, path: str) -> str:
        """Return the absolute path with all links resolved."""

    def entries(self, path: str) -> list[tuple[str, Facts]]:
        """Return the sorted entries of a directory; links are not followed."""

    def read(self, path: str, size: int) -> Generator[bytes]:
        """Yield the content of a file. The file is expected to have `size` bytes."""

    def write(self, path: str, chunks: Iterable[bytes], facts: Facts, replaced: Facts | None) -> None:
        """Write a temporary file, and then rename it to `path`. `replaced` describes the old file at `path`."""

    def make_directory(self, path: str) -> None:
        """Make a directory that only the user can enter."""

    def set_facts(self, path: str, facts: Facts) -> None:
        """Set the mode and the times of a directory."""


@dataclass(frozen=True, kw_only=True)
class CopyRequest:
    """What to copy. One path is in the guest, the other on the host; `-` on the host is standard input or output."""

    machine: str
    source: str
    destination: str
    to_guest: bool


def parse_request(source: str, destination: str) -> CopyRequest:
    """Find out which side of a copy is in a machine.

    By podman's rule, the text before the first colon is a machine's name unless it begins with a dot or a slash.

    Raises:
        BadInputError: a path is missing, or both sides are in machines, or neither side is.
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
    """Split one side of a copy into the name of a machine and the path. For a path on this host, the name is empty."""
    if text.startswith((".", "/")) or ":" not in text:
        return "", text
    name, _, path = text.partition(":")
    return name, path


def _guest_path(path: str) -> str:
    """Remove a leading `~`, since relative paths begin at the home directory in SFTP."""
    tilde, slash, rest = path.partition("/")
    if tilde == "~":
        return rest.lstrip("/") or "."
    if tilde.startswith("~"):
        raise BadInputError(
            f'the home directory "{tilde}" cannot be resolved',
            hint=f"write the full path, or ./{path} for a file of that name",
        )
    return f"{tilde}{slash}{rest}"


def base_name(source: str) -> str:
    """Return the name that the copy of `source` gets in a directory.

    The name is empty if only a directory's content is copied.

    For example, `dir/.` stands for the content of `dir`.
    """
    name = source.rstrip("/").rpartition("/")[2]
    return "" if name in (".", "..") else name


def without_slashes(path: str) -> str:
    return path.rstrip("/") or "/"


def target_path(destination: str, shown: str, existing: Facts | None, source: str, *, directory: bool) -> str:
    """Return the path of the copy. This is the destination or, if that is a directory, a path in the directory.

    Raises:
        BadInputError: the destination has to be a directory, but is a file or does not exist.
    """
    plain = without_slashes(destination)
    if existing is None:
        if not directory and destination.endswith("/"):
            raise BadInputError(f"{shown} does not exist, and a file can only be copied into an existing directory")
        return plain
    if existing.kind is Kind.DIRECTORY:
        if name := base_name(source):
            return posixpath.join(plain, name)
        return plain
    if directory or destination.endswith("/"):
        raise BadInputError(f'"{shown}" exists but is not a directory')
    return plain


def overwrite_error(existing: Facts, shown: str, *, directory: bool) -> BadInputError | None:
    """Return an error if a file, or a directory, cannot replace what already exists at the destination."""
    if directory:
        return None if existing.kind is Kind.DIRECTORY else BadInputError(f'"{shown}" exists but is not a directory')
    if existing.kind is Kind.DIRECTORY:
        return BadInputError(f'"{shown}" is a directory, which a file cannot replace')
    return irregular_file_error(shown) if existing.kind is not Kind.FILE else None


def irregular_file_error(shown: str) -> BadInputError:
    return BadInputError(
        f'"{shown}" is neither a regular file nor a directory', hint="for standard input or output, write - as the path"
    )


def below(directory: str, name: str) -> str:
    """Join a directory and a name. If the name is empty, return the directory."""
    return posixpath.join(directory, name) if name else directory


def part_path(path: str, token: str) -> str:
    """Return the temporary path, in the same directory, that a file has while it is being written."""
    directory, name = posixpath.split(path)
    stem = os.fsencode(name)[:_MAX_STEM_BYTES].decode(errors="ignore")
    return below(directory, f".{stem}.part-{token}")


def printable(path: str) -> str:
    """Return a path as one printable line, whatever bytes it contains."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
