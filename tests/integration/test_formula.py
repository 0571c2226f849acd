"""Homebrew's formula, read by the real Ruby: its syntax, what it says, and its own test, run here."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from machine import __version__
from machine.cli.main import COMMANDS
from scripts.make_formula import BREWED, BUILD_TOOLS, COMPILED, LOCKS, TEMPLATE, build_sdist, bundle, formula, locked
from tests.support.world import World, machine_program, world_environment

HARNESS = Path(__file__).with_name("formula.rb")
ROOT = Path(__file__).parents[2]


def ruby(*words: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ruby", *words], capture_output=True, text=True, check=False, **settings)


@pytest.fixture
def described() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(ruby(HARNESS, TEMPLATE, "describe").stdout)
    return document


def test_syntax_is_rubys() -> None:
    checked = ruby("-wc", TEMPLATE)
    assert (checked.stdout, checked.stderr) == ("Syntax OK\n", "")


def test_formula_keeps_homebrews_rules(described: dict[str, Any]) -> None:
    desc = described["desc"]
    assert len(desc) <= 80
    assert re.fullmatch(r"(?!An? |The |Boot2podman)[A-Z].*[^.]", desc)
    assert described["license"] == "Apache-2.0"
    brewed = described["depends_on"]
    assert brewed[1:] == sorted(brewed[1:])  # those of the build go first
    assert {"cffi", "cryptography", "qemu", "sequoia-sqv"} <= set(brewed)


def test_service_is_a_command_of_ours(described: dict[str, Any]) -> None:
    program, verb, *options = described["service"]["run"]
    assert (program, verb) == ("/opt/bin/machine", "start")
    assert verb in COMMANDS
    shown = subprocess.run([machine_program(), verb, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(option in shown for option in options)


def run_formulas_test(world: World, testpath: Path, *, version: str = __version__) -> subprocess.CompletedProcess[str]:
    """Run the test block with the program of these tests in place of the one that brew would have installed."""
    testpath.mkdir(exist_ok=True)
    environment = {**world.environment, **world_environment(testpath)}
    binaries = Path(machine_program()).parent
    return ruby(HARNESS, TEMPLATE, "test", binaries, version, cwd=testpath, env=environment)


def test_formulas_own_test_needs_the_version_and_a_program_that_checks_signatures(world: World, tmp_path: Path) -> None:
    world.link_tool("ruby", "sh")
    world.without("gpgv")
    assert '"signatures ok" in "settings ok' in run_formulas_test(world, tmp_path / "unchecked").stderr
    world.link_tool("sqv")
    done = run_formulas_test(world, tmp_path / "checked")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert '"99.9" in "machine, version' in run_formulas_test(world, tmp_path / "checked", version="99.9").stderr


def test_archive_has_the_sources_and_what_they_need(tmp_path: Path) -> None:
    vendor = tmp_path / "vendor"
    vendor.mkdir()
    (vendor / "b-1.whl").write_bytes(b"a wheel")
    (vendor / "a-1.tar.gz").write_bytes(b"a source")
    sdist = build_sdist(tmp_path)
    archives = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        archives.append(bundle(sdist, vendor, tmp_path / name).read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as archive:
        names = archive.getnames()
        source = archive.extractfile(f"boot2podman-{__version__}/vendor/a-1.tar.gz")
        assert source is not None
        assert source.read() == b"a source"
    root = f"boot2podman-{__version__}"
    assert names[-2:] == [f"{root}/vendor/a-1.tar.gz", f"{root}/vendor/b-1.whl"]
    assert {f"{root}/pyproject.toml", f"{root}/machine/cli/main.py", f"{root}/images/boot2podman/recipe.toml"} <= set(
        names
    )


def test_written_formula_names_the_archive_by_its_content_and_no_other_host() -> None:
    text = formula(TEMPLATE.read_text(), "https://example.org/boot2podman-1.tar.gz", b"content")
    assert f'  sha256 "{hashlib.sha256(b"content").hexdigest()}"\n' in text
    assert '  url "https://example.org/boot2podman-1.tar.gz"\n' in text
    assert "@" not in text.replace("python@", "")
    assert "resource" not in text
    assert re.findall(r"https?://[^/\"]+", text) == ["https://boot2podman.github.io", "https://example.org"]
    assert text.startswith("class Boot2podman < Formula\n")


def test_what_the_build_needs_is_taken_along_and_installed_before_it() -> None:
    """pip builds the program without isolation: of pyproject's requirements it then looks for none."""
    project = tomllib.loads((LOCKS.parent / "pyproject.toml").read_text())
    needed = {re.split(r"[^a-z-]", requirement)[0] for requirement in project["build-system"]["requires"]}
    (first,) = re.findall(r'system\(\*pip, "--upgrade", (.*)\)', TEMPLATE.read_text())
    assert needed <= set(re.findall(r'"([a-z-]+)"', first))
    wheels = set(locked((LOCKS / "runtime.lock").read_text())) - BREWED - COMPILED
    assert needed <= wheels | BUILD_TOOLS


def test_every_dependency_is_taken_along_or_brewed() -> None:
    runtime = locked((LOCKS / "runtime.lock").read_text())
    whole = re.findall(r"^([a-z0-9-]+)==", (LOCKS / "runtime.lock").read_text(), re.MULTILINE)
    assert list(runtime) == whole
    assert set(whole) >= BREWED | COMPILED
    assert all("--hash=sha256:" in entry and ";" not in entry for entry in runtime.values())
    tools = locked((LOCKS / "dev.lock").read_text())
    assert {"hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"} <= set(tools)
    assert set(locked((LOCKS / "formula.lock").read_text())) == {"bcrypt", "setuptools"}


@pytest.mark.parametrize(("script", "word"), [("release", "again"), ("try-formula", "eat"), ("lint", "spelling")])
def test_scripts_of_a_release_refuse_unknown_words(script: str, word: str) -> None:
    done = subprocess.run([ROOT / "scripts" / script, word], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f'"{word}"; choose ' in done.stderr


def test_release_has_the_notes_of_its_tag_and_refuses_another_tag() -> None:
    release = ROOT / "scripts" / "release"
    done = subprocess.run([release, "check", f"v{__version__}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("### Added\n")
    wrong = subprocess.run([release, "check", "v9"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("Error: the tag is v9, but ")
