"""The modules that a command line loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.world import Outcome, World

HEAVY = {
    "asyncio", "concurrent.futures", "cryptography", "http", "importlib.metadata", "lzma", "paramiko", "platformdirs",
    "psutil", "pydantic", "requests", "rich", "ssl", "tomlkit", "tomllib", "urllib.request", "urllib3",
}  # fmt: skip

_RUN = """
import json, sys
from machine.cli.main import main
out = sys.argv.pop(1)
sys.argv[0] = "machine"
try:
    main()
except SystemExit as end:
    code = end.code
with open(out, "w") as stream:
    stream.write(json.dumps([code, sorted(sys.modules)]))
"""


def run_and_list_modules(world: World, *words: str, **environment: str) -> tuple[Outcome, list[str]]:
    """Run `machine` in a new interpreter; returns its outcome and the modules loaded at its end."""
    listed = world.root.with_name("loaded.json")
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(listed), *words],
        env={**world.environment, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, modules = json.loads(Path(listed).read_bytes())
    return Outcome(status=status, stdout=done.stdout, stderr=done.stderr), modules
