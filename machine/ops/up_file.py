"""Read a machines file, which describes the machines of a project in TOML for `machine up` and `machine down`.

Its table `[defaults]` and its tables `[machine.NAME]` have the keys of the file of `machine init -f`.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from machine.errors import BadInputError, MachineError
from machine.files import current_directory
from machine.model.config import MachineConfig
from machine.model.names import check_machine_name, did_you_mean
from machine.model.provider import Provider
from machine.ops.init_file import STDIN, TomlFile, read_keys, read_toml, request_of
from machine.ops.init_request import InitRequest, suits

FILE_NAME = "machines.toml"

_DEFAULTS = "defaults"
_MACHINE = "machine"
_ROOT_SUFFIX = "-root"
_IMAGE, _SHA256, _PROVIDER = "image", "image_sha256", "provider"

_TABLES = f"keys belong below [{_DEFAULTS}] or [{_MACHINE}.NAME]"


@dataclass(frozen=True, kw_only=True)
class MachinesFile:
    """A machines file. The values in its tables have not been checked yet."""

    toml: TomlFile
    identity: str | None
    """The absolute path of the file, which the records of its machines have; None for standard input."""

    defaults: Mapping[str, object]
    machines: Mapping[str, Mapping[str, object]]
    """The table of each machine by the machine's name, in the file's order."""

    def shown_table(self, name: str) -> str:
        """Return what errors call the table of the machine `name`."""
        return f"{self.toml.shown_path}: [{_MACHINE}.{name}]"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A machine as the file wants it: the keys that the file has for it, and the request that they amount to."""

    keys: Sequence[str]
    request: InitRequest


def find_file(given: str | None, uid: int) -> str:
    """Return the path of the machines file: the `given` one, or else the one that belongs to the current directory.

    The file belongs to the directory in which it lies, and to those below that have no such file themselves.

    Raises:
        BadInputError: no file is given, and none is found, or the one that is found is another user's.
    """
    if given is not None:
        return given
    cwd = current_directory()
    for directory in [Path(cwd), *Path(cwd).parents] if cwd else []:
        path = directory / FILE_NAME
        if os.path.lexists(path):
            _check_owner(path, uid)
            return FILE_NAME if directory == Path(cwd or "") else os.fspath(path)
    raise BadInputError(f"there is no {FILE_NAME} in this directory or above it", hint="name a file with: -f FILE")


def _check_owner(path: Path, uid: int) -> None:
    """Check that the file is the user's or root's. Another user's, as in /tmp, could share folders with its guests.

    Raises:
        BadInputError: the file is another user's.
    """
    try:
        owner = path.stat().st_uid
    except OSError:
        return  # reading the file will say what is wrong
    if owner not in (uid, 0):
        raise BadInputError(
            f"{path} was found, but it belongs to another user", hint=f"if you trust it, name it with: -f {path}"
        )


def load_file(path: str) -> MachinesFile:
    """Read a machines file, and check its tables and the names of its machines. The path `-` stands for standard input.

    Raises:
        BadInputError: the file cannot be read, or something in it is invalid.
    """
    toml = read_toml(path)
    identity = None if path == STDIN else os.path.realpath(path)
    return parse_tables(toml, identity)


def parse_tables(toml: TomlFile, identity: str | None) -> MachinesFile:
    """Check the tables of a parsed file, and the names of its machines (pure).

    Raises:
        BadInputError: there is a key outside the tables, an unknown table, no machine, or an invalid name.
    """
    shown = toml.shown_path
    for key, value in toml.document.items():
        if key not in (_DEFAULTS, _MACHINE):
            raise _unknown(key, value, shown)
        if not isinstance(value, dict):
            raise BadInputError(f'{shown}: "{key}" must be a table', hint=_TABLES)
    machines = _tables(toml.document, _MACHINE)
    for key, value in machines.items():
        if not isinstance(value, dict):
            raise BadInputError(f'{shown}: "{key}" is in no machine\'s table', hint=_TABLES)
        _check_name(key, machines, shown)
    if not machines:
        raise BadInputError(f"{shown} describes no machine", hint=f"add a table such as [{_MACHINE}.box]")
    return MachinesFile(toml=toml, identity=identity, defaults=_tables(toml.document, _DEFAULTS), machines=machines)


def _tables(document: Mapping[str, object], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    assert isinstance(value, dict)
    return value


def _unknown(key: str, value: object, shown: str) -> BadInputError:
    if not isinstance(value, dict):
        return BadInputError(f'{shown}: "{key}" is in no table', hint=_TABLES)
    near = did_you_mean(key, (_DEFAULTS, _MACHINE))
    return BadInputError(f"{shown}: unknown table [{key}]{near}", hint=None if near else _TABLES)


def _check_name(name: str, names: Iterable[str], shown: str) -> None:
    try:
        check_machine_name(name)
    except BadInputError as error:
        raise BadInputError(f"{shown}: {error.message}") from error
    if f"{name}{_ROOT_SUFFIX}" in names:
        raise BadInputError(
            f'{shown}: the name "{name}{_ROOT_SUFFIX}" is taken by the connection to root\'s Podman in {name}',
            hint=f"rename one of the two: [{_MACHINE}.{name}] or [{_MACHINE}.{name}{_ROOT_SUFFIX}]",
        )


def chosen_names(file: MachinesFile, names: Sequence[str]) -> list[str]:
    """Return the names of the file's machines to act on, each once: the given `names`, or all if there are none.

    Raises:
        BadInputError: the file does not have one of the names.
    """
    known = list(file.machines)
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise BadInputError(
                f'{file.toml.shown_path} has no machine "{name}"{near}',
                hint=None if near else f"its machines are: {', '.join(known)}",
            )
    return list(dict.fromkeys(names or known))


def check_made_from(config: MachineConfig, file: MachinesFile) -> None:
    """Check that no other file has made the machine, unless that file has been moved or removed since.

    Raises:
        MachineError: another file has made the machine.
    """
    other = _other_file(config, file)
    if other is not None and other.exists():
        raise MachineError(
            f'"{config.name}" belongs to another file, {other}', hint=f"give it another name in {file.toml.shown_path}"
        )


def has_moved(config: MachineConfig, file: MachinesFile) -> bool:
    """Return whether the machine was made by a file that no longer exists, as after the project was moved."""
    other = _other_file(config, file)
    return other is not None and not other.exists()


def _other_file(config: MachineConfig, file: MachinesFile) -> Path | None:
    made_by = config.machines_file
    return None if made_by is None or file.identity in (None, made_by) else Path(made_by)


def read_machines(file: MachinesFile) -> dict[str, Wanted]:
    """Read the values in the tables, and the files that they name. Return each machine as the file wants it.

    A key of a machine's own table replaces the key in the table of defaults. A sha256 among the defaults is that of the
    image among the defaults, so it does not apply to a machine with another image. Defaults that concern another
    provider than the machine's do not apply to it either.

    Raises:
        BadInputError: a key is unknown, or its value is invalid, or one of the files cannot be read.
        MachineError: one of the files is a Butane file, but butane is not installed.
    """
    shown, base = file.toml.shown_path, file.toml.base
    defaults = _read_table(file.defaults, f"{shown}: [{_DEFAULTS}]", base)
    machines = {}
    for name, table in file.machines.items():
        own = _read_table(table, file.shown_table(name), base)
        provider = own.get(_PROVIDER, defaults.get(_PROVIDER))
        inherited = {key: value for key, value in defaults.items() if key != _SHA256 or _IMAGE not in own}
        inherited = {key: value for key, value in inherited.items() if suits(key, provider)}
        _check_provider(provider, own, {*inherited, *own}, file.shown_table(name))
        values = {**inherited, **own}
        request = replace(request_of(values), name=name, machines_file=file.identity)
        machines[name] = Wanted(keys=tuple(values), request=request)
    return machines


def _check_provider(provider: object, own: Iterable[str], keys: Container[str], where: str) -> None:
    """Check that a machine's `own` keys concern its provider, and that a host over SSH is named by one of its `keys`.

    Raises:
        BadInputError: a key concerns another provider, or there is no host.
    """
    unfit = [key for key in own if not suits(key, provider)]
    if provider == Provider.SSH:
        if unfit:
            raise BadInputError(f'{where}: "{unfit[0]}" does not apply to a host that is reached over SSH')
        if "host" not in keys:
            raise BadInputError(f"{where}: the provider ssh needs a host", hint='add: host = "[USER@]HOST[:PORT]"')
    elif unfit:
        raise BadInputError(
            f'{where}: "{unfit[0]}" is for hosts that are reached over SSH', hint=f'add: {_PROVIDER} = "{Provider.SSH}"'
        )


def _read_table(table: Mapping[str, object], where: str, base: Path) -> dict[str, object]:
    if "name" in table:
        raise BadInputError(
            f'{where}: "name" is not a key here', hint=f"a machine has its table's name: [{_MACHINE}.NAME]"
        )
    return read_keys(table, where, base)
