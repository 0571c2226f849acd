"""What the pages for users tell to type: each verb, flag, setting and variable in it exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from machine.cli.main import cli
from machine.model.settings import RULES
from scripts.manual import ENVIRONMENT

ROOT = Path(__file__).parents[3]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))

# A command of ours, at the beginning of code in a sentence, or of a line that is only code.
_COMMAND = re.compile(r"(?:`|^(?:\$ | {4}))(?:\w+=\S+ )*machine (?P<words>[^`\n]*(?:\n[^`\n]+(?=`))?)", re.MULTILINE)
_COMPLETED = "in"
"""The beginning of a verb, in the sentence about the Tab key."""


def unknown_words(words: list[str]) -> list[str]:
    """Return the verbs and flags of a command line that `machine` does not have."""
    command: click.Command = cli
    context = click.Context(cli)
    rest = [word for word in words if not re.fullmatch(r"-v+", word)]
    while isinstance(command, click.Group) and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        found = command.get_command(context, rest[0])
        if not found:
            return rest[:1]
        command, rest = found, rest[1:]
        context = click.Context(command, parent=context)
    names = {name for param in command.get_params(context) for name in (*param.opts, *param.secondary_opts)}
    if command.name == "ssh":
        rest = rest[:2]  # further words are a command in the guest
    return [
        flag for flag in (word.partition("=")[0] for word in rest) if re.match(r"--?[a-z]", flag) and flag not in names
    ]


def commands(text: str) -> list[list[str]]:
    """Return the words of each command line of `machine` in a page, up to what the shell or the guest is to do."""
    lines = [re.split(r" (?:&&|\|\|?|>|#|echo|CMD) ", match["words"])[0] for match in _COMMAND.finditer(text)]
    return [line.split() for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_of_a_page_has_a_verb_and_flags_that_exist(page: Path) -> None:
    told = [words for words in commands(page.read_text()) if words and words != [_COMPLETED]]
    assert [(words, unknown) for words in told if (unknown := unknown_words(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_setting_and_variable_of_a_page_exists(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"config\s(?:set|get|unset)\s([a-z_]+)", text)) <= set(RULES)
    assert set(re.findall(r"\b(?<!_)MACHINE_[A-Z]+\b", text)) <= set(ENVIRONMENT)


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("`machine ls --format json`", []),
        ("    machine snapshot make box", ["make"]),
        ("$ MACHINE_ACCEL=tcg machine init --now --swop 3 box", ["--swop"]),
        ("`machine init\n--rooted`", ["--rooted"]),
        ("the machine starts", []),
    ],
)
def test_commands_are_found_wherever_a_page_has_them(line: str, unknown: list[str]) -> None:
    assert [word for words in commands(line) for word in unknown_words(words)] == unknown
