"""Folders of the host that a guest sees: how a person writes them, and which there can be (pure).

Texts as podman has them where it has any: scripts match them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from machine.errors import BadInputError
from machine.model.transport import Transport

SYNTAX = "SRC[:DST[:ro]]"

# Podman's list, and / itself.
_TAKEN = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var"}  # noqa: S108
)  # fmt: skip
# Nothing below these is on a disk.
_KERNELS = ("/dev", "/proc", "/sys")
# Without what is there no guest boots again to be told that the folder is gone, or knows what it has been told.
_SYSTEM = (
    "/etc/ssh", "/etc/systemd/system", "/lib", "/lib64", "/ostree", "/sysroot", "/usr/bin", "/usr/lib", "/usr/lib64",
    "/usr/libexec", "/usr/sbin", "/usr/share", "/var/lib/boot2podman", "/var/lib/systemd",
)  # fmt: skip
# Surrogates are what Python makes of bytes that are no UTF-8.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>\w+)|(?P<dollar>\$))")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Both paths are absolute and normal, and have no colons."""

    source: str
    target: str
    read_only: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"

    @property
    def tag(self) -> str:
        """What the guest knows its device by: at most 31 bytes, which is what 9p allows."""
        import hashlib  # not for `machine inspect`

        return f"folder-{hashlib.sha256(self.target.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A folder as a device of the guest's; `socket` is where virtiofsd listens, unused by 9p."""

    folder: Folder
    transport: Transport
    socket: PurePosixPath


def read_folder(text: str) -> Folder:
    """A folder as a record has it; ValueError for anything else."""
    source, target, *mode = text.split(":")
    if mode not in ([], ["ro"]) or not source.startswith("/") or not target.startswith("/"):
        raise ValueError(f"{text!r} is no folder")
    return Folder(source=source, target=target, read_only=bool(mode))


def parse_volume(text: str, *, environment: Mapping[str, str], cwd: str) -> Folder:
    """What a person wrote; variables are expanded, `$$` is a dollar sign, and a relative source is below `cwd`.

    Raises:
        BadInputError: it is no folder.
    """

    def expand(found: re.Match[str]) -> str:
        return found["dollar"] or environment.get(found["braced"] or found["plain"], "")

    expanded = _VARIABLE.sub(expand, text)
    source, *rest = expanded.split(":")
    if not source or len(rest) > 2 or _CONTROLS.search(expanded):
        hint = f"write {SYNTAX}; a path is UTF-8 and has neither colons nor control characters"
        raise BadInputError(f'invalid volume "{_visible(text)}"', hint=hint)
    source = normal(posixpath.join(cwd, source))
    target = rest[0] if rest else source
    if not target.startswith("/"):
        raise BadInputError(f'invalid volume "{text}": the path in the guest must be absolute', hint=f"write {SYNTAX}")
    target = normal(target)
    # A line of a unit that ends so goes on in the next one.
    if target != target.rstrip() or target.endswith("\\"):
        raise BadInputError(f'invalid volume "{text}": the path in the guest ends with white space or a backslash')
    return Folder(source=source, target=target, read_only=_is_read_only(rest[1:], text))


def without_variables(path: str) -> str:
    """What `parse_volume` takes for this path, whatever dollar signs it has."""
    return path.replace("$", "$$")


def _is_read_only(options: Sequence[str], text: str) -> bool:
    read_only = False
    for option in ",".join(options).split(","):
        match option.partition("="):
            case ("ro" | "rw", "", ""):
                read_only = option == "ro"
            case ("security_model", "=", _) | ("", "", ""):
                pass  # podman's, of its days with 9p
            case _:
                raise BadInputError(f'unknown option "{option}" of volume "{text}"', hint="choose one of: ro, rw")
    return read_only


def normal(path: str) -> str:
    """An absolute path without dots, repeated slashes and one at its end; POSIX lets two at its beginning stand."""
    return "/" + posixpath.normpath(path).lstrip("/")


def check_targets(folders: Sequence[Folder], username: str) -> None:
    """Whether the guest can have them all.

    Raises:
        BadInputError: one is where the guest has something of its own, or two are in one place.
    """
    for folder in folders:
        check_target(folder.target, username)
    check_apart(folders)


def check_apart(folders: Sequence[Folder]) -> None:
    """Raises:
    BadInputError: two are in one place.
    """
    for number, folder in enumerate(folders):
        for other in folders[:number]:
            if covers(folder.target, other.target) or covers(other.target, folder.target):
                raise BadInputError(
                    f'machine mount destinations "{other.target}" and "{folder.target}" overlap',
                    hint="give each folder a place of its own",
                )


def check_target(target: str, username: str) -> None:
    """Raises:
    BadInputError: the guest has something of its own there.
    """
    homes = [f"{home}/{username}" for home in ("/home", "/var/home")]
    own = [*homes, *(f"{home}/.ssh" for home in (*homes, "/root", "/var/roothome")), *_SYSTEM]
    if (
        target in _TAKEN
        or any(covers(kernels, target) for kernels in _KERNELS)
        or any(covers(target, path) for path in own)
    ):
        raise BadInputError(
            f'machine mount destination cannot be "{target}": '
            "consider another location or a subdirectory of an existing location"
        )


def covers(upper: str, lower: str) -> bool:
    """Whether `lower` is `upper`, or below it."""
    return PurePosixPath(lower).is_relative_to(upper)


def _visible(text: str) -> str:
    return _CONTROLS.sub("?", text)
