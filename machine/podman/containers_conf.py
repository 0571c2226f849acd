"""Read defaults of new machines from Podman's containers.conf: `[machine]`, and the time zone in `[containers]`.

The files are read in the same way as Podman 5 reads them (containers/common, pkg/config/new.go). Unknown keys are
ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from machine.errors import BadInputError, reason_of
from machine.model.arch import Arch
from machine.model.host import Host
from machine.model.settings import Layer, Value
from machine.podman.conf_files import NAME

_SCALARS: tuple[tuple[str, type[int], str], ...] = (
    ("cpus", int, "a whole number"),
    ("memory", int, "a whole number"),
    ("disk_size", int, "a whole number"),
    ("import_native_ca", bool, "true or false"),
)
"""The settings that have the same key in [machine] and in our config: the key, its type, and the type in words."""

# Text settings: table, Podman's key, our key.
_TEXTS = (("machine", "image", "image"), ("machine", "user", "username"), ("containers", "tz", "timezone"))

T = TypeVar("T")


def load_layers(files: list[Path], host: Host) -> list[Layer]:
    """Return the defaults of new machines that each file sets.

    Raises:
        BadInputError: a file cannot be read, or has a value of a wrong type, which is an error in Podman, too.
    """
    return read_layers([(path, _load(path)) for path in files], host)


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {reason_of(error)}") from error
    except ValueError as error:
        raise BadInputError(f"{path} is not TOML: {reason_of(error)}") from error


def read_layers(documents: Sequence[tuple[Path, Mapping[str, Any]]], host: Host) -> list[Layer]:
    """Translate parsed files into settings (pure). `documents` has the files in order of increasing precedence.

    Raises:
        BadInputError: a value has a wrong type, which is an error in Podman, too.
    """
    layers = []
    volumes: tuple[str, ...] = ()
    appends = False
    for path, document in documents:
        values = _single_values(document, path, host)
        machine = _table(document, "machine", path)
        if "volumes" in machine:
            added, attribute = _volumes(machine["volumes"], path)
            # `append` also applies to the files that follow.
            appends = appends if attribute is None else attribute
            values["volumes"] = volumes = (*volumes, *added) if appends else added
        layers.append(Layer(origin=f"{NAME}: {path}", values=values))
    return layers


def _single_values(document: Mapping[str, Any], path: Path, host: Host) -> dict[str, Value]:
    """Return the settings in a file, by our keys for them.

    Lists are left out, because the value of a list also depends on the preceding files.
    """
    tables = {name: _table(document, name, path) for name in ("machine", "containers")}
    values: dict[str, Value] = {}
    for key, kind, expected in _SCALARS:
        if key in tables["machine"]:
            values[key] = _typed(tables["machine"][key], kind, expected, f"{path}: [machine] {key}")
    for table, theirs, ours in _TEXTS:
        # In the files of distributions, an empty string means the built-in default.
        if text := _typed(tables[table].get(theirs, ""), str, "a string in quotes", f"{path}: [{table}] {theirs}"):
            values[ours] = _expanded(text, host) if ours == "image" else text
    return values


def _table(document: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    return _typed(document.get(name, {}), dict, "a table", f"{path}: {name}")


def _typed(value: object, kind: type[T], expected: str, what: str) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadInputError(f"{what} must be {expected}")
    return value


def _volumes(value: object, path: Path) -> tuple[tuple[str, ...], bool | None]:
    """Split a list such as `["/a:/b", {append=true}]` into its volumes and its `append` attribute, if any."""
    what, expected = f"{path}: [machine] volumes", 'a list of strings like ["/a:/a"]'
    entries = _typed(value, list, expected, what)
    attributes = [entry for entry in entries if isinstance(entry, dict)]
    volumes = tuple(_typed(entry, str, expected, what) for entry in entries if not isinstance(entry, dict))
    appends = [entry["append"] for entry in attributes if isinstance(entry.get("append"), bool)]
    return volumes, appends[-1] if appends else None


def _expanded(image: str, host: Host) -> str:
    """Replace $OS and $ARCH by Go's names of this host's system and architecture."""
    try:
        arch = Arch.parse(host.machine).go
    except ValueError:  # not an architecture of guests
        arch = host.machine
    names = {"$ARCH": arch, "$arch": arch, "$OS": host.os.value, "$os": host.os.value}
    for variable, name in names.items():
        image = image.replace(variable, name)
    return image
