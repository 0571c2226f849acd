"""Every help text, whole, against golden files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from machine import __version__
from machine.cli.main import COMMANDS
from tests.unit.cli.conftest import Machine

GOLDEN = Path(__file__).with_name("golden")

LINES = [
    (),
    *((name,) for name in sorted(COMMANDS)),
    *(("config", name) for name in ("edit", "get", "path", "set", "unset")),
    ("image", "build"),
    ("image", "inspect"),
    ("image", "ls"),
    ("image", "pull"),
    ("os", "apply"),
    ("os", "upgrade"),
    ("port", "add"),
    ("port", "ls"),
]


@pytest.mark.parametrize("words", LINES, ids=lambda words: "-".join(("machine", *words)))
def test_help_is_the_golden_one(
    words: tuple[str, ...], machine: Machine, matches_golden: Callable[[str, Path], None]
) -> None:
    outcome = machine(*words, "--help")
    assert (outcome.status, outcome.stderr) == (0, "")
    matches_golden(outcome.stdout, GOLDEN / f"{'-'.join(('machine', *words))}.txt")


def test_short_option_and_alias_give_the_same_help(machine: Machine) -> None:
    assert machine("-h").stdout == machine("--help").stdout
    assert machine("ls", "--help").stdout.partition("\n")[2] == machine("list", "--help").stdout.partition("\n")[2]


def test_version(machine: Machine) -> None:
    assert machine("--version").stdout == f"machine, version {__version__}\n"
