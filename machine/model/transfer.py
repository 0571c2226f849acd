"""What `machine cp` copies, and where to (pure). The rules are those of podman and of scp -r."""

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
CHUNK_BYTES = 32 * 1024  # the largest request that every SFTP server accepts

_MAX_STEM_BYTES = 200  # leaves room for the rest of a name of 255 bytes
_SIDES = "write the machine's side as NAME:PATH, and a local path that contains a colon as ./PATH"


class Kind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A file's metadata, as far as it is copied: `mode` excludes the file type, times are whole seconds as in SFTP."""

    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    accessed: int
    modified: int

    @property
    def kept_mode(self) -> int:
        """The mode without set-uid and set-gid, which would have another effect under another owner."""
        return self.mode & (0o1777 if self.kind is Kind.DIRECTORY else 0o777)


def kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER


class Files(Protocol):
    """The files of one side of a copy. Paths are as os.fsdecode returns them. Every method may raise MachineError."""

    def show(self, path: str) -> str:
        """Return the path as messages show it."""

    def stat(self, path: str) -> Facts | None:
        """Return the metadata of what a path leads to, following links, or None if nothing exists there."""

    def real(self, path: str) -> str:
        """Return the absolute path with all links resolved."""

    def entries(self, path: str) -> list[tuple[str, Facts]]:
        """Return the sorted entries of a directory; links are not followed."""

    def read(self, path: str, size: int) -> Generator[bytes]:
        """Yield the content of a file, which is expected to have `size` bytes."""

    def write(self, path: str, chunks: Iterable[bytes], facts: Facts, replaced: Facts | None) -> None:
        """Write a file, which gets its name once it is complete; `replaced` describes the file of that name now."""

    def make_directory(self, path: str) -> None:
        """Make a directory that only the user can enter."""

    def set_facts(self, path: str, facts: Facts) -> None:
        """Set the mode and the times of a directory."""


@dataclass(frozen=True, kw_only=True)
class CopyRequest:
    """What to copy: one path is in the guest, the other on the host, where `-` means standard input or output."""

    machine: str
    source: str
    destination: str
    to_guest: bool


def parse_request(source: str, destination: str) -> CopyRequest:
    """Find out which side is in a machine, by podman's rule: what precedes the first colon is a machine's name, unless
    the text begins with a dot or a slash.

    Raises:
        BadInputError: a path is missing, or not exactly one side is in a machine.
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
    """Split a side into the machine's name (empty for this host) and the path."""
    if text.startswith((".", "/")) or ":" not in text:
        return "", text
    name, _, path = text.partition(":")
    return name, path


def _guest_path(path: str) -> str:
    """Replace a leading `~`: relative paths begin at the home directory in SFTP."""
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
    """Return the name of a copy in a directory; empty for `dir/.` and the like, whose content is copied."""
    name = source.rstrip("/").rpartition("/")[2]
    return "" if name in (".", "..") else name


def without_slashes(path: str) -> str:
    return path.rstrip("/") or "/"


def target_path(destination: str, shown: str, existing: Facts | None, source: str, *, directory: bool) -> str:
    """Return where the source goes: into the destination if that is a directory, else to the destination's own name.

    Raises:
        BadInputError: a file is in the way, or a directory does not exist.
    """
    plain = without_slashes(destination)
    if existing is None:
        if not directory and destination.endswith("/"):
            raise BadInputError(f"{shown} does not exist: a file can only be copied into an existing directory")
        return plain
    if existing.kind is Kind.DIRECTORY:
        if name := base_name(source):
            return posixpath.join(plain, name)
        return plain
    if directory or destination.endswith("/"):
        raise BadInputError(f'"{shown}" exists but is not a directory')
    return plain


def overwrite_error(existing: Facts, shown: str, *, directory: bool) -> BadInputError | None:
    """Return the error if a file, or a directory, cannot replace what exists at its destination."""
    if directory:
        return None if existing.kind is Kind.DIRECTORY else BadInputError(f'"{shown}" exists but is not a directory')
    if existing.kind is Kind.DIRECTORY:
        return BadInputError(f'"{shown}" is a directory, which a file cannot replace')
    return irregular_file_error(shown) if existing.kind is not Kind.FILE else None


def irregular_file_error(shown: str) -> BadInputError:
    return BadInputError(
        f'"{shown}" is neither a regular file nor a directory', hint="use - for standard input and output"
    )


def below(directory: str, name: str) -> str:
    """Join a directory and a name; an empty name means the directory itself."""
    return posixpath.join(directory, name) if name else directory


def part_path(path: str, token: str) -> str:
    """Return the temporary path of a file while it is being written, in the same directory."""
    directory, name = posixpath.split(path)
    stem = os.fsencode(name)[:_MAX_STEM_BYTES].decode(errors="ignore")
    return below(directory, f".{stem}.part-{token}")


def printable(path: str) -> str:
    """Return a path as one printable line, whatever bytes it contains."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
