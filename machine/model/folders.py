"""Folders of the host that are shared with a guest: their syntax, and where the guest can mount them (pure).

Error messages are podman's where podman has one, as scripts match them.
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

# Targets that podman refuses, and / itself.
_FORBIDDEN_TARGETS = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var"}  # noqa: S108
)  # fmt: skip
# The kernel's own file systems, in which no folder can be mounted.
_KERNEL_FILE_SYSTEMS = ("/dev", "/proc", "/sys")
# Where a folder would keep the guest from booting, or from learning that the folder was removed.
_GUEST_DIRECTORIES = (
    "/etc/ssh", "/etc/systemd/system", "/lib", "/lib64", "/ostree", "/sysroot", "/usr/bin", "/usr/lib", "/usr/lib64",
    "/usr/libexec", "/usr/sbin", "/usr/share", "/var/lib/boot2podman", "/var/lib/systemd",
)  # fmt: skip
# Surrogates are how Python represents bytes that are not UTF-8.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>\w+)|(?P<dollar>\$))")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A directory of the host and where the guest mounts it; both paths are absolute, normalized and without colons."""

    source: str
    target: str
    read_only: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"

    @property
    def tag(self) -> str:
        """The mount tag of the folder's device, of at most 31 bytes (9p's limit)."""
        import hashlib  # not for `machine inspect`

        return f"folder-{hashlib.sha256(self.target.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A folder that QEMU shares by a device; `socket` is virtiofsd's, and unused with 9p."""

    folder: Folder
    transport: Transport
    socket: PurePosixPath


def read_folder(text: str) -> Folder:
    """Parse a folder in the form of `str(folder)`, which records store.

    Raises:
        ValueError: the text is malformed.
    """
    source, target, *mode = text.split(":")
    if mode not in ([], ["ro"]) or not source.startswith("/") or not target.startswith("/"):
        raise ValueError(f"{text!r} is not a folder")
    return Folder(source=source, target=target, read_only=bool(mode))


def parse_volume(text: str, *, environment: Mapping[str, str], cwd: str) -> Folder:
    """Parse a folder as users write it: variables are expanded, `$$` is a dollar sign, sources are relative to `cwd`.

    Raises:
        BadInputError: it is malformed.
    """

    def expand(found: re.Match[str]) -> str:
        return found["dollar"] or environment.get(found["braced"] or found["plain"], "")

    expanded = _VARIABLE.sub(expand, text)
    source, *rest = expanded.split(":")
    if not source or len(rest) > 2 or _CONTROLS.search(expanded):
        hint = f"write {SYNTAX}; paths must be UTF-8 without colons or control characters"
        raise BadInputError(f'invalid volume "{_visible(text)}"', hint=hint)
    source = normalized(posixpath.join(cwd, source))
    target = rest[0] if rest else source
    if not target.startswith("/"):
        raise BadInputError(f'invalid volume "{text}": the path in the guest must be absolute', hint=f"write {SYNTAX}")
    target = normalized(target)
    # A systemd unit would lose white space at the end of a line, and take a backslash there for a continuation.
    if target != target.rstrip() or target.endswith("\\"):
        raise BadInputError(
            f'invalid volume "{text}": the path in the guest must not end with white space or a backslash'
        )
    return Folder(source=source, target=target, read_only=_is_read_only(rest[1:], text))


def check_source(real: str, written: str) -> None:
    """Check that a record can hold the path to which the symbolic links of a source lead.

    Raises:
        BadInputError: it cannot.
    """
    if ":" in real or _CONTROLS.search(real):
        raise BadInputError(
            f'invalid volume "{written}": it is a symbolic link to {_visible(real)}',
            hint="paths must be UTF-8 without colons or control characters",
        )


def without_variables(path: str) -> str:
    """Escape dollar signs, so that `parse_volume` returns this path."""
    return path.replace("$", "$$")


def _is_read_only(options: Sequence[str], text: str) -> bool:
    read_only = False
    for option in ",".join(options).split(","):
        match option.partition("="):
            case ("ro" | "rw", "", ""):
                read_only = option == "ro"
            case ("security_model", "=", _) | ("", "", ""):
                pass  # podman had this option when it used 9p
            case _:
                raise BadInputError(f'unknown option "{option}" of volume "{text}"', hint="choose one of: ro, rw")
    return read_only


def normalized(path: str) -> str:
    """Normalize an absolute path, including two slashes at its beginning, which posixpath keeps."""
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
    """Check that no folder's target is inside another's.

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
        BadInputError: the guest has something of its own there.
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
    """Return whether `lower` is `upper`, or below it."""
    return PurePosixPath(lower).is_relative_to(upper)


def _visible(text: str) -> str:
    return _CONTROLS.sub("?", text)
