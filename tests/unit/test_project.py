"""The project's own files: versions that agree, workflows whose commands exist, and pages that name real files."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from machine import DOCUMENTATION, __version__
from machine.cli.main import COMMANDS
from scripts.release_notes import notes_of, problem_with

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
TIERS = ("lint", "unit", "darwin", "integration", "guest", "arch", "kvm", "kubevirt")
LINTERS = ("ruff", "format", "types", "imports", "workflows", "docs")


def text_of(path: str) -> str:
    return (ROOT / path).read_text()


def names_of_workflows(path: Path) -> str:
    return path.name


def test_the_newest_release_in_the_changelog_is_this_version() -> None:
    released = re.findall(r"^## \[(\d\S*)\] - (\S+)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert released[0][0] == __version__
    assert released == sorted(released, key=lambda one: one[1], reverse=True)


def test_a_release_needs_the_tag_of_its_version_and_its_notes() -> None:
    changelog = "# Changelog\n\n## [0.2.0] - 2026-11-26\n\n- new\n\n## [0.1.0] - 2026-11-23\n\n- first\n"
    assert problem_with("v0.2.0", "0.2.0", changelog) is None
    assert (notes_of("0.2.0", changelog), notes_of("0.1.0", changelog)) == ("- new", "- first")
    assert "tag v0.2.0" in str(problem_with("v0.3.0", "0.2.0", changelog))
    assert "no section for 0.3.0" in str(problem_with("v0.3.0", "0.3.0", changelog))
    assert problem_with(f"v{__version__}", __version__, text_of("CHANGELOG.md")) is None


def test_changelog_names_commands_that_exist() -> None:
    named = re.findall(r"`machine ([a-z-]+)", text_of("CHANGELOG.md"))
    assert named
    assert set(named) <= {*COMMANDS, "ls"}


def test_documentation_has_one_place() -> None:
    assert tomllib.loads(text_of("pyproject.toml"))["project"]["urls"]["Documentation"] == DOCUMENTATION
    for name in ("Formula/boot2podman.rb", "CONTRIBUTING.md"):
        assert set(re.findall(r"https://\w+\.github\.io[^\s\">]*", text_of(name))) == {DOCUMENTATION}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=names_of_workflows)
def test_each_step_of_a_workflow_is_a_call_of_a_script(workflow: Path) -> None:
    calls = re.findall(r"^ *(?:- )?run: *(.*)$", workflow.read_text(), re.MULTILINE)
    assert calls
    for call in calls:
        script, *words = call.split()
        assert os.access(ROOT / script, os.X_OK), f"{workflow.name} runs {call}"
        assert script.startswith("scripts/")
        if script == "scripts/test":
            assert words[0] in TIERS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=names_of_workflows)
def test_actions_are_pinned_by_hash_and_name_their_version(workflow: Path) -> None:
    for used in re.findall(r"uses: *(.*)$", workflow.read_text(), re.MULTILINE):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used)


def test_an_action_has_the_same_hash_everywhere() -> None:
    used = {word for path in WORKFLOWS for word in re.findall(r"uses: *(\S+)", path.read_text())}
    assert len(used) == len({word.partition("@")[0] for word in used})


def test_tests_run_with_every_python_that_the_package_supports() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    named = [word.rpartition(" ")[2] for word in project["classifiers"] if re.search(r":: 3\.\d+$", word)]
    (matrix,) = re.findall(r"python: \[(.*)\]", text_of(".github/workflows/checks.yml"))
    assert re.findall(r'"(.*?)"', matrix) == named
    assert project["requires-python"] == f">={named[0]}"


def test_hooks_before_a_commit_are_the_linters_of_ci() -> None:
    entries = re.findall(r"entry: (.*)", text_of(".pre-commit-config.yaml"))
    assert entries == [f"scripts/lint {linter}" for linter in LINTERS]
    assert f"set -- {' '.join(LINTERS)}" in text_of("scripts/lint")


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_files_that_exist(page: str) -> None:
    text = text_of(page)
    named = re.findall(r"\b(?:machine|tests|scripts|images|requirements|\.github)/[\w./-]*\w", text)
    named += [f".github/workflows/{name}" for name in re.findall(r"`([a-z]+\.yml)`", text)]
    named += re.findall(r"\]\((?!http)([^)#]+)", text)
    missing = [name for name in named if "VERB" not in name and not (ROOT / name).exists()]
    assert not missing


def test_contributing_tells_of_every_tier_and_workflow() -> None:
    text = text_of("CONTRIBUTING.md")
    assert all(f"| `scripts/test {tier}" in text for tier in TIERS)
    assert all(f"`{path.name}`" in text for path in WORKFLOWS)
