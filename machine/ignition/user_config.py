"""The user's own Ignition config: read, translated where it is Butane's, and found good before a machine is made."""

from __future__ import annotations

import os
import re
from pathlib import Path

from machine import runner
from machine.errors import BadInputError, MachineError
from machine.ignition.lint import Problem, lint
from machine.model.config import UserIgnition
from machine.model.units import MIB

_BUTANE_SUFFIXES = (".bu", ".butane", ".yaml", ".yml")
_BUTANE = "butane"
_VALIDATOR = "ignition-validate"
_PROGRAM_S = 60.0

# It is kept in the machine's record, which every listing reads, and goes into the guest's memory.
_MOST_MIB = 16

# Of a validator that is older than the config; the version itself was found good by then.
_UNKNOWN_VERSION = "unsupported config version"


def load(path: Path) -> UserIgnition:
    """The config in a file.

    Raises:
        BadInputError: it cannot be read, or something in it is wrong.
        MachineError: it is Butane's, and butane is not there to make JSON of it.
    """
    if path.suffix.lower() in _BUTANE_SUFFIXES:
        text = _from_butane(path)
        check(text, f"{path}, as butane has made it,")
    else:
        text = read_text(path)
        check(text, str(path))
    return UserIgnition(name=path.name, text=text)


def read_text(path: Path) -> str:
    """Raises:
    BadInputError: the file cannot be read, is too large, or is no text.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_MIB * MIB + 1)
        if len(content) > _MOST_MIB * MIB:
            raise BadInputError(f"{path} is larger than {_MOST_MIB} MiB")
        text = content.decode()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is no text in UTF-8") from error
    if "\0" in text:
        raise BadInputError(f"{path} is no text")
    return text


def check(text: str, called: str) -> None:
    """Raises:
    BadInputError: the config has a mistake; the first is the message, the others its details.
    """
    problems = lint(text)
    if problems:
        first, *others = (_line(problem, called) for problem in problems)
        raise BadInputError(first, details=others)
    _validate(text, called)


def _line(problem: Problem, called: str) -> str:
    return f"{called}:{problem.line}:{problem.column}: {problem.text}"


def _validate(text: str, called: str) -> None:
    """Ignition's own opinion, where it is installed; of a warning too, as nobody would see it at a first boot."""
    validator = runner.find_program(_VALIDATOR)
    if validator is None:
        return
    done = runner.run([validator, "-"], timeout_s=_PROGRAM_S, check=False, stdin=text)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if any(_UNKNOWN_VERSION in line for line in said) or (done.returncode == 0 and not said):
        return
    first, *others = said or [f"{_VALIDATOR} ended with exit status {done.returncode}"]
    raise BadInputError(f"{called}: {first}", details=others)


def _from_butane(path: Path) -> str:
    read_text(path)
    butane = runner.find_program(_BUTANE)
    if butane is None:
        raise MachineError(
            f"butane is not installed on this host, and {path.name} needs it to become an Ignition config",
            hint="install it, or give the JSON that it makes elsewhere: butane --strict FILE.bu >FILE.ign",
        )
    argv = [butane, "--strict", "--files-dir", os.fspath(path.parent), os.fspath(path)]
    done = runner.run(argv, timeout_s=_PROGRAM_S, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        # Its last line says how many there were; those with a place say what is wrong.
        placed = [line for line in said if re.search(r"line [0-9]+", line)]
        first, *others = placed or said or [f"butane ended with exit status {done.returncode}"]
        raise BadInputError(f"{path}: {first}", details=others)
    return done.stdout
