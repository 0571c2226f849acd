"""What the program imports is declared, even if another library would bring it along."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import machine

PACKAGE = Path(machine.__file__).parent
# Imported where it is there: Python 3.14 has it in its standard library.
STANDARD_LATER = {"compression"}


def imported_modules() -> set[str]:
    """Return the top-level names of all modules that the program imports anywhere."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found |= {name.name.partition(".")[0] for name in names}
                case ast.ImportFrom(module=str(module), level=0):
                    found.add(module.partition(".")[0])
                case _:
                    pass
    return found


def test_each_imported_library_is_a_declared_dependency() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    foreign = imported_modules() - sys.stdlib_module_names - {"machine"} - STANDARD_LATER
    providers = packages_distributions()
    missing = {
        module: providers.get(module, [])
        for module in foreign
        if declared.isdisjoint(name.lower().replace("_", "-") for name in providers.get(module, []))
    }
    assert missing == {}
