"""Find the files that make up Podman's containers.conf, as Podman 5 does (containers/common, pkg/config/new.go)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from machine.errors import BadInputError, reason_of
from machine.podman.connections import containers_directory

NAME = "containers.conf"
VENDOR = Path("/usr/share/containers") / NAME
ADMINISTRATOR = Path("/etc/containers") / NAME


def find_files(
    environment: Mapping[str, str], home: Path, *, vendor: Path = VENDOR, administrator: Path = ADMINISTRATOR
) -> list[Path]:
    """Return the files to read, in order of increasing precedence.

    Raises:
        BadInputError: a variable names a file that does not exist, or a directory cannot be read.
    """
    if named := _named("CONTAINERS_CONF", environment):
        files = [named]
    else:
        user = containers_directory(environment, home) / NAME
        candidates = [vendor, administrator, *_drop_ins(administrator), user, *_drop_ins(user)]
        files = [path for path in candidates if path.exists()]
    override = _named("CONTAINERS_CONF_OVERRIDE", environment)
    return [*files, override] if override else files


def _named(variable: str, environment: Mapping[str, str]) -> Path | None:
    value = environment.get(variable)
    if value and not Path(value).exists():
        raise BadInputError(f"{variable} names {value}, which does not exist", hint=f"unset {variable}")
    return Path(value) if value else None


def _drop_ins(main: Path) -> list[Path]:
    directory = main.with_name(f"{main.name}.d")
    try:
        return sorted(path for path in directory.iterdir() if path.name.endswith(".conf") and not path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadInputError(f"cannot read {directory}: {reason_of(error)}") from error


def have_connections(files: Iterable[Path]) -> bool:
    """Return whether a Podman up to version 4.9 may have stored connections in one of these files."""
    return any(b"service_destinations" in _content(path) for path in files)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
