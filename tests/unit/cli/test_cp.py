"""`machine cp` as far as it needs no guest."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from machine.cli.cp import command, complete_sides
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.command_line import Machine

SIDES = "write the machine's side as NAME:PATH, and a local path that contains a colon as ./PATH"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["a", "b"], f"a machine name must prefix either the source path or destination path; {SIDES}"),
        (["one:a", "two:b"], f"copying between two machines is unsupported; {SIDES}"),
        (["-q", "box:", "b"], 'invalid arguments "box:", "b": you must specify paths'),
        (["a", "box:b"], 'vm "box" is not running; start it with: machine start box'),
        (["no:a", "b"], "no: VM does not exist; the only machine is box"),
        (["box:a"], "accepts 2 arg(s), received 1; see 'machine cp --help'"),
    ],
)
def test_refusal_is_one_line(words: list[str], line: str, machine: Machine, tmp_path: Path) -> None:
    save_machine(make_roots(tmp_path / "world" / "m"), make_record("box"))
    outcome = machine("cp", *words)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (125, "", f"Error: {line}\n")


def test_completion_offers_machines_and_files(tmp_path: Path) -> None:
    for name in ("box", "bay", "other"):
        save_machine(make_roots(tmp_path / "world" / "m"), make_record(name))
    items = complete_sides(click.Context(command), command.params[1], "b")
    assert [(item.value, item.type) for item in items] == [("b", "file"), ("bay:", "plain"), ("box:", "plain")]
