"""Find the mistakes in an Ignition config, with their lines and columns (pure).

Unknown keys are mistakes too. Ignition ignores them, so a misspelt key would only show as something missing in the
guest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from machine.ignition.located import Located, SyntaxProblemError, line_and_column, parse
from machine.ignition.schema import CONFIG, NEWEST, Kind, Many, Table

_VERSION = re.compile(r"3\.([0-9]+)\.0")
_SCHEMES = ("data", "http", "https", "tftp", "s3", "gs", "arn")
_UNIT_TYPES = (
    "service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "snapshot", "slice",
    "scope",
)  # fmt: skip
_NODES = ("files", "directories", "links")

# From this version on, a mode may include setuid, setgid and the sticky bit.
_SPECIAL_MODES_SINCE = 4

_KIND_NAMES = {str: "a string", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    line: int
    column: int
    text: str


def lint(text: str) -> list[Problem]:
    """Return all mistakes in a config, in the order of their positions. If the config is valid, the list is empty."""
    try:
        root = parse(text)
        found = list(_check_config(root))
    except SyntaxProblemError as error:
        found = [(error.offset, error.text)]
    problems = []
    for offset, problem in found:
        line, column = line_and_column(text, offset)
        problems.append(Problem(line=line, column=column, text=problem))
    return sorted(problems)


def minor_version(text: str) -> int:
    """Return the N of the version 3.N.0 of a valid config."""
    found = _VERSION.fullmatch(str(_member(parse(text), "ignition", "version")))
    assert found
    return int(found[1])


def _check_config(root: Located) -> Iterator[tuple[int, str]]:
    version = _member(root, "ignition", "version")
    if isinstance(version, str):
        found = _VERSION.fullmatch(version)
        if not found or int(found[1]) > NEWEST:
            assert isinstance(root.value, dict)
            ignition = root.value["ignition"].value
            assert isinstance(ignition, dict)
            yield ignition["version"].offset, f'version "{version}" is not supported (3.0.0 to 3.{NEWEST}.0)'
            return
        minor = int(found[1])
    else:
        minor = NEWEST
    yield from _check(root, CONFIG, "", minor)
    yield from _check_paths(root)


def _member(value: Located, *names: str) -> object:
    for name in names:
        if not isinstance(value.value, dict) or name not in value.value:
            return None
        value = value.value[name]
    return value.value


def _check(value: Located, kind: Kind, where: str, minor: int) -> Iterator[tuple[int, str]]:
    match kind:
        case type():
            # A bool is an int to isinstance.
            if type(value.value) is not kind:
                yield value.offset, f"{where} must be {_KIND_NAMES[kind]}"
        case Many():
            if not isinstance(value.value, list):
                yield value.offset, f"{where} must be a list"
                return
            for number, entry in enumerate(value.value):
                yield from _check(entry, kind.kind, f"{where}[{number}]", minor)
            if kind.unique not in (None, "path"):  # _check_paths compares paths across lists
                yield from _check_duplicates(value.value, kind.unique, where)
        case dict():
            yield from _check_table(value, kind, where, minor)
        case _:
            assert_never(kind)  # type: ignore[arg-type]  # a Mapping is always a dict here


def _check_table(value: Located, table: Table, where: str, minor: int) -> Iterator[tuple[int, str]]:
    if not isinstance(value.value, dict):
        yield value.offset, f"{where or 'a config'} must be an object"
        return
    place = f" in {where}" if where else ""
    for name, offset in value.repeated:
        yield offset, f'the key "{name}" is given twice{place}'
    for name, member in value.value.items():
        key = table.get(name)
        below = f"{where}.{name}" if where else name
        if key is None:
            near = difflib.get_close_matches(name, table, n=1)
            yield value.keys[name], f'unused key "{name}"{place}' + (f'; did you mean "{near[0]}"?' if near else "")
        elif key.since > minor:
            yield (
                value.keys[name],
                f"{below} requires version 3.{key.since}.0, but this config has version 3.{minor}.0",
            )
        elif member.value is not None:  # to Ignition, null means absent
            yield from _check(member, key.kind, below, minor)
            if problem := _meaning_problem(name, member.value, below, minor):
                yield member.offset, problem
    yield from _check_required(value, value.value, table, where)


def _check_required(value: Located, members: dict[str, Located], table: Table, where: str) -> Iterator[tuple[int, str]]:
    for name, key in table.items():
        if key.required and (name not in members or members[name].value in (None, "")):
            yield value.offset, f'{where or "the config"} needs the key "{name}"'


def _meaning_problem(name: str, value: object, where: str, minor: int) -> str | None:
    """Return a description of what is wrong with a value of the right type, or None if the value is valid."""
    match name, value:
        case "path", str():
            return _path_problem(value, where)
        case "source", str():
            return _source_problem(value, where)
        case "mode", int():
            return _mode_problem(value, where, minor)
        case "name", str() if where.startswith("systemd.units["):
            return _unit_problem(value, where)
        case _:
            return None


def _path_problem(path: str, where: str) -> str | None:
    if not path or path.startswith("/"):
        return None
    return f'{where} must be an absolute path, not "{path}"'


def _source_problem(source: str, where: str) -> str | None:
    scheme = source.partition(":")[0].lower()
    if scheme in _SCHEMES and (scheme != "data" or "," in source):
        return None
    return f"{where} must be a URL with one of the schemes {', '.join(_SCHEMES)}"


def _mode_problem(mode: int, where: str, minor: int) -> str | None:
    if 0 <= mode <= (0o7777 if minor >= _SPECIAL_MODES_SINCE else 0o777):
        return None
    text = str(mode)
    octal = f"; for the octal {text}, write {int(text, 8)}" if re.fullmatch(r"[0-7]{3,4}", text) else ""
    return f"{where} is not a file mode in decimal{octal}"


def _unit_problem(name: str, where: str) -> str | None:
    is_dropin = ".dropins[" in where
    if not name or name.rpartition(".")[2] in (("conf",) if is_dropin else _UNIT_TYPES):
        return None
    return f"{where} must end in .conf" if is_dropin else f"{where} must end in a unit type such as .service"


def _check_duplicates(entries: list[Located], key: str, where: str) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for entry in entries:
        name = _member(entry, key)
        if isinstance(name, str) and name in seen:
            yield entry.offset, f'"{name}" is given twice in {where}'
        elif isinstance(name, str):
            seen.add(name)


def _check_paths(root: Located) -> Iterator[tuple[int, str]]:
    """Check that no path is given twice among files, directories and links."""
    lists = [_member(root, "storage", name) for name in _NODES]
    entries = [entry for entries in lists if isinstance(entries, list) for entry in entries]
    yield from _check_duplicates(entries, "path", "storage")
