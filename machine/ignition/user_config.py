"""Read and check the user's own Ignition config. If it is in Butane's format, translate it first."""

from __future__ import annotations

import os
import re
from pathlib import Path

from machine import runner
from machine.errors import BadInputError, MachineError, reason_of
from machine.files import is_readable_kind
from machine.ignition.lint import Problem, lint
from machine.model.config import UserIgnition
from machine.model.units import MIB

_BUTANE_SUFFIXES = (".bu", ".butane", ".yaml", ".yml")
_BUTANE = "butane"
_VALIDATOR = "ignition-validate"
_PROGRAM_S = 60.0

# The limit is low because every listing reads the config with the record, and the guest loads it into memory.
_MAX_MIB = 16

# A validator that is older than the config reports this error; `lint` has already checked the version.
_UNKNOWN_VERSION = "unsupported config version"


def load(path: Path) -> UserIgnition:
    """Read and check the config in a file.

    Raises:
        BadInputError: the config cannot be read or is invalid.
        MachineError: the config is in Butane's format, but butane is not installed.
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
        BadInputError: the file cannot be read, is too large, or is not text.
    """
    if not is_readable_kind(path):
        raise BadInputError(f"{path} is not a regular file")
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_MIB * MIB + 1)
        if len(content) > _MAX_MIB * MIB:
            raise BadInputError(f"{path} is larger than {_MAX_MIB} MiB")
        text = content.decode()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text") from error
    if "\0" in text:
        raise BadInputError(f"{path} is not a text file")
    return text


def check(text: str, name: str) -> None:
    """Check an Ignition config. Messages call it `name`.

    Raises:
        BadInputError: the config has mistakes. The first mistake is the message, the others are the error's details.
    """
    problems = lint(text)
    if problems:
        first, *others = (_format(problem, name) for problem in problems)
        raise BadInputError(first, details=others)
    _validate(text, name)


def _format(problem: Problem, name: str) -> str:
    return f"{name}:{problem.line}:{problem.column}: {problem.text}"


def _validate(text: str, name: str) -> None:
    """If Ignition's validator is installed, run it on a config. Warnings are errors, because nobody sees them later."""
    validator = runner.find_program(_VALIDATOR)
    if validator is None:
        return
    done = runner.run([validator, "-"], timeout_s=_PROGRAM_S, check=False, stdin=text)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if any(_UNKNOWN_VERSION in line for line in lines) or (done.returncode == 0 and not lines):
        return
    first, *others = lines or [f"{_VALIDATOR} ended with exit status {done.returncode}"]
    raise BadInputError(f"{name}: {first}", details=others)


def _from_butane(path: Path) -> str:
    read_text(path)
    butane = runner.find_program(_BUTANE)
    if butane is None:
        raise MachineError(
            f"{path.name} is a Butane file, but butane is not installed on this host",
            hint="install butane, or translate the file elsewhere: butane --strict FILE.bu >FILE.ign",
        )
    argv = [butane, "--strict", "--files-dir", os.fspath(path.parent), os.fspath(path)]
    done = runner.run(argv, timeout_s=_PROGRAM_S, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # The lines with a position describe the mistakes; the last line only sums up.
        located = [line for line in lines if re.search(r"line [0-9]+", line)]
        first, *others = located or lines or [f"butane ended with exit status {done.returncode}"]
        raise BadInputError(f"{path}: {first}", details=others)
    return done.stdout
