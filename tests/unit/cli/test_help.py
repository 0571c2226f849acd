"""Every help text, whole, against golden files."""

from __future__ import annotations

import re

import pytest

from machine import __version__
from machine.cli.main import COMMANDS
from tests.support.command_line import Machine
from tests.support.golden import Golden

LINES = [
    (),
    *((name,) for name in sorted(COMMANDS)),
    ("autostart", "disable"),
    ("autostart", "enable"),
    *(("config", name) for name in ("edit", "get", "path", "set", "unset")),
    *(("mount", name) for name in ("add", "ls", "rm")),
    *(("image", name) for name in ("build", "catalogue", "inspect", "ls", "prune", "pull", "rm", "verify")),
    *(("os", name) for name in ("apply", "upgrade")),
    *(("port", name) for name in ("add", "ls", "rm")),
]


@pytest.mark.parametrize("words", LINES, ids=lambda words: "-".join(("machine", *words)))
def test_help_is_the_golden_one(words: tuple[str, ...], machine: Machine, golden: Golden) -> None:
    outcome = machine(*words, "--help")
    assert (outcome.status, outcome.stderr) == (0, "")
    golden.matches_file(outcome.stdout, f"{'-'.join(('machine', *words))}.txt")


@pytest.mark.parametrize("words", LINES, ids=lambda words: "-".join(("machine", *words)))
def test_help_teaches_by_example(words: tuple[str, ...], machine: Machine) -> None:
    *_, examples = re.split(r"\n  Examples?:\n", machine(*words, "--help").stdout)
    block, _, _ = examples.partition("\n\n")
    lines = block.splitlines()
    assert 1 <= len(lines) <= 4
    assert all(line.startswith("    ") and len(line) <= 78 for line in lines)
    assert any(" ".join(("machine", *words)) in line.replace("machine ls", "machine list") for line in lines)


def test_short_option_and_alias_give_the_same_help(machine: Machine) -> None:
    assert machine("-h").stdout == machine("--help").stdout
    assert machine("ls", "--help").stdout.partition("\n")[2] == machine("list", "--help").stdout.partition("\n")[2]


def test_version(machine: Machine) -> None:
    assert machine("--version").stdout == f"machine, version {__version__}\n"
