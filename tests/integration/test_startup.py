"""What the quick commands load: none of the heavy modules, and not much else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.builders import make_record, make_roots, save_machine
from tests.support.loaded_modules import HEAVY, run_and_list_modules
from tests.support.world import make_world

# A few above what CPython 3.11 with click 8.5 loads; a bare interpreter has 34, and each small module of ours counts.
MOST = {"help": 112, "list": 156, "template": 167, "inspect": 159, "completion": 139}

COMPLETION = {"_MACHINE_COMPLETE": "bash_complete", "COMP_WORDS": "machine start ", "COMP_CWORD": "2"}


@pytest.mark.linux("to imitate a Mac loads many modules")
@pytest.mark.parametrize(
    ("words", "most", "environment", "output"),
    [
        (["--help"], "help", {}, "Usage: machine"),
        (["--version"], "help", {}, "machine, version"),
        (["list"], "list", {}, "box"),
        (["ls", "--format", "json"], "list", {}, '"Name": "box"'),
        (["ls", "--format", "{{.Name}}"], "template", {}, "box"),
        (["inspect", "box"], "inspect", {}, '"Name": "box"'),
        ([], "completion", COMPLETION, "plain,box\n"),
    ],
    ids=["help", "version", "list", "list-json", "template", "inspect", "completion"],
)
def test_quick_command_loads_nothing_heavy(
    words: list[str], most: str, environment: dict[str, str], output: str, short_path: Path
) -> None:
    world = make_world(short_path / "w")
    save_machine(make_roots(world.home), make_record())
    outcome, modules = run_and_list_modules(world, *words, **environment)
    assert output in outcome.stdout
    assert (outcome.status, outcome.stderr) == (0, "")
    assert HEAVY.isdisjoint(modules), HEAVY.intersection(modules)
    assert len(modules) <= MOST[most], (len(modules), modules)
