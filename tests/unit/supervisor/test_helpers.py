"""What a running machine has of the program, which may be replaced or removed meanwhile."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from machine.folders import confine
from machine.ports import relay
from machine.supervisor.helpers import helper_command, install_helpers
from tests.support.builders import make_paths

# Prints the modules that a supervisor has loaded, with their files.
LOADED = """
import json, sys
from machine.supervisor.openssl import load_without_openssl
load_without_openssl()
import machine.supervisor.process
from machine.supervisor.preload import preload
preload()
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""

# For commands only, for another system than the test's, or loaded early by a supervisor that needs it.
NOT_IN_A_SUPERVISOR = {
    "difflib",
    "machine.resolver.lookup",
    "machine.resolver.server",
    "platformdirs",
    "plistlib",
    "tomlkit",
    "tomllib",
    "xml.parsers.expat",
}


def test_supervisor_has_loaded_all_that_its_modules_import_later() -> None:
    output = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True, timeout=60).stdout
    loaded = json.loads(output)
    later = {
        name
        for module, file in loaded.items()
        if module.split(".")[0] == "machine" and file
        for name in imports_in_functions(Path(file))
    }
    assert later - loaded.keys() <= NOT_IN_A_SUPERVISOR
    # Python itself loads them: for asyncio.to_thread, and to resolve a name.
    assert {"concurrent.futures.thread", "encodings.idna"} <= loaded.keys()


def imports_in_functions(file: Path) -> set[str]:
    found = set()
    for function in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module)
                elif isinstance(node, ast.Import):
                    found.update(alias.name for alias in node.names)
    return found


def test_helpers_are_run_from_the_machines_folder_by_a_python_outside_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    paths.directory.mkdir(parents=True)
    (tmp_path / "python3").symlink_to(Path(sys.executable).resolve())
    environment = tmp_path / "env"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python3").symlink_to("../../python3")
    (environment / "bin" / "python").symlink_to("python3")
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    install_helpers(paths)
    for program, module in ((paths.relay, relay), (paths.confine, confine)):
        assert helper_command(program) == (str(tmp_path / "python3"), "-I", "-S", str(program))
        assert program.read_text() == inspect.getsource(module)


def test_python_that_is_no_link_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(python))
    assert helper_command(Path("/x.py"))[0] == str(python)


def test_helpers_that_are_there_are_not_written_again(tmp_path: Path) -> None:
    """A supervisor can take over a guest whose host's disk is full."""
    paths = make_paths(tmp_path)
    paths.directory.mkdir(parents=True)
    install_helpers(paths)
    paths.confine.write_text("of an older version")
    before = paths.relay.stat().st_ino
    install_helpers(paths)
    assert paths.relay.stat().st_ino == before
    assert paths.confine.read_bytes() == Path(confine.__file__).read_bytes()
