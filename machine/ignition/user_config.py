"""Reading the user's own Ignition config: translated, if it is in Butane's format, and checked."""

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

# It becomes a part of the record, which every listing reads, and is loaded into the guest's memory.
_MAX_MIB = 16

# The complaint of a validator that is older than the config; we have checked the version ourselves.
_UNKNOWN_VERSION = "unsupported config version"


def load(path: Path) -> UserIgnition:
    """Read and check the config in a file.

    Raises:
        BadInputError: it cannot be read, or something in it is wrong.
        MachineError: it is in Butane's format, but butane is not installed.
    """
    if path.suffix.lower() in _BUTANE_SUFFIXES:
        text = _from_butane(path)
        check(text, f"butane's output for {path}")
    else:
        text = read_text(path)
        check(text, str(path))
    return UserIgnition(name=path.name, text=text)


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        BadInputError: it cannot be read, is too large, or is not text.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_MIB * MIB + 1)
        if len(content) > _MAX_MIB * MIB:
            raise BadInputError(f"{path} is larger than {_MAX_MIB} MiB")
        text = content.decode()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text") from error
    if "\0" in text:
        raise BadInputError(f"{path} is not a text file")
    return text


def check(text: str, called: str) -> None:
    """Check a config; `called` is its name in messages.

    Raises:
        BadInputError: the config has mistakes; the first is the message, the others are its details.
    """
    problems = lint(text)
    if problems:
        first, *others = (_line(problem, called) for problem in problems)
        raise BadInputError(first, details=others)
    _validate(text, called)


def _line(problem: Problem, called: str) -> str:
    return f"{called}:{problem.line}:{problem.column}: {problem.text}"


def _validate(text: str, called: str) -> None:
    """Run Ignition's validator, if it is installed. Warnings are errors, as a first boot shows them to nobody."""
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
            f"{path.name} is a Butane file, but butane is not installed on this host",
            hint="install it, or translate the file elsewhere: butane --strict FILE.bu >FILE.ign",
        )
    argv = [butane, "--strict", "--files-dir", os.fspath(path.parent), os.fspath(path)]
    done = runner.run(argv, timeout_s=_PROGRAM_S, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        # The last line is a summary; the lines with a position say what is wrong.
        placed = [line for line in said if re.search(r"line [0-9]+", line)]
        first, *others = placed or said or [f"butane ended with exit status {done.returncode}"]
        raise BadInputError(f"{path}: {first}", details=others)
    return done.stdout
