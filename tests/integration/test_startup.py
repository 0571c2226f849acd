"""What the quick commands load: none of the heavy modules, and not much else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import make_world
from tests.support.builders import make_record, make_roots, save_machine

HEAVY = {
    "asyncio", "concurrent.futures", "cryptography", "http", "importlib.metadata", "lzma", "paramiko", "platformdirs",
    "psutil", "pydantic", "requests", "rich", "ssl", "tomlkit", "tomllib", "urllib.request", "urllib3",
}  # fmt: skip

# A few above what CPython 3.11 with click 8.5 loads; a bare interpreter has 34, and each small module of ours counts.
MOST = {"help": 112, "list": 145, "template": 158, "inspect": 150, "completion": 139}

RUN = """
import json, sys
from machine.cli.main import main
sys.argv = ["machine", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code
with open({out!r}, "w") as stream:
    stream.write(json.dumps([code, sorted(sys.modules)]))
"""

COMPLETION = {"_MACHINE_COMPLETE": "bash_complete", "COMP_WORDS": "machine start ", "COMP_CWORD": "2"}


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
    loaded = short_path / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(out=str(loaded)), *words],
        env={**world.environment, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert output in done.stdout
    code, modules = json.loads(loaded.read_bytes())
    assert (code, done.stderr) == (0, "")
    assert HEAVY.isdisjoint(modules), HEAVY.intersection(modules)
    assert len(modules) <= MOST[most], (len(modules), modules)
