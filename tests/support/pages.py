"""Transcripts in the documentation's pages, and how they are run.

A block ```` ```console ```` has command lines after `$ `, each followed by what it prints on standard output. In that,
`…` stands for any text, and a line of `…` alone for any lines; a command without output may print anything. The remark
before a block says where it runs:

    (none)                      in a world without a guest; the blocks of a page run in one world, in their order
    <!-- guest -->              in the guest tier, where the machine `box` is running
    <!-- not run: REASON -->    nowhere
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_ANY = "…"
_BLOCK = re.compile(r"(?:^<!-- (?P<remark>[^\n]*) -->\n)?^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"not run: \S.+")


class Place(StrEnum):
    """Where the commands of a block are run."""

    HOST = "host"
    GUEST = "guest"
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class Step:
    """A command line, and what it prints."""

    command: str
    expected: tuple[str, ...]

    def matches(self, output: str) -> bool:
        """Return whether the command has printed what its page says."""
        if not self.expected:
            return True
        lines = (r"(?:[^\n]*\n)*" if line == _ANY else f"{_pattern(line)}\n" for line in self.expected)
        return re.fullmatch("".join(lines), output) is not None


def _pattern(line: str) -> str:
    return "[^\n]*".join(map(re.escape, line.split(_ANY)))


@dataclass(frozen=True)
class Block:
    """A transcript in a page."""

    place: Place
    steps: tuple[Step, ...]

    @property
    def script(self) -> str:
        """The block as a program of bash that stops at the first failure, and marks where each output ends."""
        return "".join(f"{step.command}\nprintf '\\0'\n" for step in self.steps)


def blocks(text: str) -> list[Block]:
    """Return the transcripts of a page."""
    return [Block(_place(found["remark"]), _steps(found["text"])) for found in _BLOCK.finditer(text)]


def _place(remark: str | None) -> Place:
    if remark is None:
        return Place.HOST
    if _NOT_RUN.fullmatch(remark):
        return Place.NOWHERE
    assert remark == "guest", f"unknown remark before a transcript: {remark}"
    return Place.GUEST


def _steps(text: str) -> tuple[Step, ...]:
    assert text.startswith("$ "), f"a transcript begins with a command: {text}"
    commands = text.removeprefix("$ ").split("\n$ ")
    steps = []
    for each in commands:
        command, *expected = each.rstrip("\n").split("\n")
        steps.append(Step(command, tuple(expected)))
    return tuple(steps)


def pages_with(place: Place) -> list[str]:
    """Return the pages, as paths below docs/, that have transcripts for this place."""
    return sorted(
        str(path.relative_to(DOCS))
        for path in DOCS.rglob("*.md")
        if any(block.place is place for block in blocks(path.read_text()))
    )


def transcripts(page: str, place: Place) -> list[Block]:
    """Return the transcripts of a page for this place."""
    return [block for block in blocks((DOCS / page).read_text()) if block.place is place]


def check(block: Block, stdout: str) -> None:
    """Compare what the script of a block has printed with its page."""
    for step, output in zip(block.steps, stdout.split("\0"), strict=False):
        assert step.matches(output), f"$ {step.command}\n{output}\ndoes not match\n" + "\n".join(step.expected)
