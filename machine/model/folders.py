"""Parse the folders of the host that a guest gets, and check where the guest can mount them (pure).

If podman has an error message for a case, this module uses the same message, because scripts match it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from machine.errors import BadInputError
from machine.model.dataclass import dataclass
from machine.model.transport import Transport

SYNTAX = "SRC[:DST[:ro]]"

# Targets that podman refuses, and / itself.
_FORBIDDEN_TARGETS = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var"}  # noqa: S108
)  # fmt: skip
# The kernel's own file systems, in which no folder can be mounted.
_KERNEL_FILE_SYSTEMS = ("/dev", "/proc", "/sys")
# A folder here would keep the guest from booting, or from learning that the folder was removed.
_GUEST_DIRECTORIES = (
    "/etc/ssh", "/etc/systemd/system", "/lib", "/lib64", "/ostree", "/sysroot", "/usr/bin", "/usr/lib", "/usr/lib64",
    "/usr/libexec", "/usr/sbin", "/usr/share", "/var/lib/boot2podman", "/var/lib/systemd",
)  # fmt: skip
# Python represents bytes that are not UTF-8 by surrogates.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>\w+)|(?P<dollar>\$))")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A directory of the host, and the path where the guest mounts it.

    Both paths are absolute and normalized and contain no colon.
    """

    source: str
    target: str
    read_only: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"

    @property
    def tag(self) -> str:
        """The mount tag of the folder's device. It has at most 31 bytes, the limit of 9p."""
        import hashlib  # not for `machine inspect`

        return f"folder-{hashlib.sha256(self.target.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A folder that QEMU shares by a device. `socket` is the socket of virtiofsd, which 9p does not use."""

    folder: Folder
    transport: Transport
    socket: PurePosixPath


def read_folder(text: str) -> Folder:
    """Parse a folder from the text of `str(folder)`, which is what records store.

    Raises:
        ValueError: the text is not such a folder.
    """
    match text.split(":"):
        case [source, target, *mode] if mode in ([], ["ro"]) and source.startswith("/") and target.startswith("/"):
            return Folder(source=source, target=target, read_only=bool(mode))
        case _:
            raise ValueError(f'"{text}" is not {SYNTAX} with absolute paths')


def parse_volume(text: str, *, environment: Mapping[str, str], cwd: str | None) -> Folder:
    """Parse a folder as users write it. Variables are expanded, `$$` is a dollar sign, sources are relative to `cwd`.

    `cwd` is None if the current directory has been removed.

    Raises:
        BadInputError: the text does not describe a folder, or has an unknown option.
    """

    def expand(found: re.Match[str]) -> str:
        return found["dollar"] or environment.get(found["braced"] or found["plain"], "")

    expanded = _VARIABLE.sub(expand, text)
    source, *rest = expanded.split(":")
    if not source or len(rest) > 2 or _CONTROLS.search(expanded):
        hint = f"write {SYNTAX}; paths must be UTF-8 without colons or control characters"
        raise BadInputError(f'invalid volume "{_visible(text)}"', hint=hint)
    if cwd is None and not source.startswith("/"):
        raise BadInputError(f'invalid volume "{text}": the current directory no longer exists', hint=f"write {SYNTAX}")
    source = normalized(posixpath.join(cwd or "/", source))
    target = rest[0] if rest else source
    if not target.startswith("/"):
        raise BadInputError(f'invalid volume "{text}": the path in the guest must be absolute', hint=f"write {SYNTAX}")
    target = normalized(target)
    # At the end of a line, a systemd unit would lose white space, and take a backslash for a continuation.
    if target != target.rstrip() or target.endswith("\\"):
        raise BadInputError(
            f'invalid volume "{text}": the path in the guest must not end with white space or a backslash'
        )
    return Folder(source=source, target=target, read_only=_is_read_only(rest[1:], text))


def check_source(real: str, written: str) -> None:
    """Check that the path `real` has no characters that records cannot store.

    The user has given the source as `written`. `real` is the path to which symbolic links in `written` lead.

    Raises:
        BadInputError: `real` has such a character.
    """
    if ":" in real or _CONTROLS.search(real):
        raise BadInputError(
            f'invalid volume "{written}": it is a symbolic link to {_visible(real)}',
            hint="paths must be UTF-8 without colons or control characters",
        )


def without_variables(path: str) -> str:
    """Escape the dollar signs of a path, so that `parse_volume` returns the path unchanged."""
    return path.replace("$", "$$")


def _is_read_only(options: Sequence[str], text: str) -> bool:
    read_only = False
    for option in ",".join(options).split(","):
        match option.partition("="):
            case ("ro" | "rw", "", ""):
                read_only = option == "ro"
            case ("security_model", "=", _) | ("", "", ""):
                pass  # podman had the option security_model when it used 9p
            case _:
                raise BadInputError(f'unknown option "{option}" of volume "{text}"', hint="choose one of: ro, rw")
    return read_only


def normalized(path: str) -> str:
    """Normalize an absolute path. Two slashes at its beginning become one, although posixpath would keep two."""
    return "/" + posixpath.normpath(path).lstrip("/")


def check_targets(folders: Sequence[Folder], username: str) -> None:
    """Check that the guest can mount all of these folders.

    Raises:
        BadInputError: a target is one of the guest's own directories, or two targets overlap.
    """
    for folder in folders:
        check_target(folder.target, username)
    check_apart(folders)


def check_apart(folders: Sequence[Folder]) -> None:
    """Check that no folder's target is inside another folder's target.

    Raises:
        BadInputError: two targets overlap.
    """
    for number, folder in enumerate(folders):
        for other in folders[:number]:
            if covers(folder.target, other.target) or covers(other.target, folder.target):
                raise BadInputError(
                    f'machine mount destinations "{other.target}" and "{folder.target}" overlap',
                    hint="mount each folder at a path of its own",
                )


def check_target(target: str, username: str) -> None:
    """Check that a folder may be mounted at `target`.

    Raises:
        BadInputError: the guest needs that path for itself.
    """
    homes = [f"{home}/{username}" for home in ("/home", "/var/home")]
    own = [*homes, *(f"{home}/.ssh" for home in (*homes, "/root", "/var/roothome")), *_GUEST_DIRECTORIES]
    if (
        target in _FORBIDDEN_TARGETS
        or any(covers(kernels, target) for kernels in _KERNEL_FILE_SYSTEMS)
        or any(covers(target, path) for path in own)
    ):
        raise BadInputError(
            f'machine mount destination cannot be "{target}": '
            "consider another location or a subdirectory of an existing location"
        )


def covers(upper: str, lower: str) -> bool:
    """Return whether the path `lower` is the same as `upper`, or is below `upper`."""
    return PurePosixPath(lower).is_relative_to(upper)


def _visible(text: str) -> str:
    return _CONTROLS.sub("?", text)
