"""Transcripts of command lines: what is typed, what comes out, and the exit status, whole; no guest boots.

A file in `lines` is a session in a world of its own, in the form that tests/support/transcripts.py describes.
Lines that do not begin with `machine` are for the shell. Texts are Podman's
where it has the same error: they were compared with the real podman 4.3.1 when they were written, and with podman's
sources. `--update-golden` writes what comes out now.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine.cli.main import ALIASES, COMMANDS
from tests.support.disk_images import Images
from tests.support.golden import Golden
from tests.support.transcripts import names_in, transcribe
from tests.support.world import COMMAND_S, Outcome, World, make_world

DIRECTORY = Path(__file__).with_name("lines")
SCRIPTS = sorted(DIRECTORY.glob("*.txt"))
_LINUX = pytest.mark.linux("they name what belongs to Linux, such as packages, systemd and KVM")
_CASES = [
    pytest.param(path, id=path.stem, marks=_LINUX if path.stem in ("damaged", "init", "machine") else ())
    for path in SCRIPTS
]

LEAST = 150


@dataclass(frozen=True, kw_only=True)
class Typed:
    """One line that is typed, taken apart."""

    environment: dict[str, str]
    words: list[str]
    stdin: str

    @classmethod
    def parse(cls, line: str, variables: dict[str, str]) -> Typed:
        command, marker, answer = line.partition(" <<< ")
        words = shlex.split(command)
        environment = {}
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, environment[name] = words.pop(0).partition("=")
        for name, value in variables.items():
            words = [word.replace(f"${name}", value) for word in words]
        return cls(environment=environment, words=words, stdin=f"{''.join(shlex.split(answer))}\n" if marker else "")


def run_machine(typed: Typed, world: World) -> Outcome:
    return world.machine(*typed.words[1:], stdin=typed.stdin, **typed.environment)


def run_shell(line: str, world: World, variables: dict[str, str]) -> Outcome:
    done = subprocess.run(
        ["/bin/sh", "-c", line], env={**world.environment, **variables, "PATH": os.defpath}, cwd=world.root,
        capture_output=True, text=True, check=False, timeout=COMMAND_S,
    )  # fmt: skip
    return Outcome(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def names_in_scripts(world: World, images: Images) -> dict[str, str]:
    """The names that scripts have for what is in a world."""
    return {"IMAGE": str(images.qcow2), **names_in(world)}


def rerun(script: str, world: World, variables: dict[str, str]) -> str:
    """The script with what its lines give now."""
    text = ""
    for line in script.splitlines():
        if line.startswith("$ "):
            typed = Typed.parse(line.removeprefix("$ "), variables)
            if typed.words[0] == "machine":
                outcome = run_machine(typed, world)
            else:
                outcome = run_shell(line.removeprefix("$ "), world, variables)
            text += f"{line}\n{transcribe(outcome, variables)}"
        elif line[:1] not in (">", "!", "="):
            text += f"{line}\n"
    return text


@pytest.mark.parametrize("path", _CASES)
def test_lines_give_what_is_written(path: Path, images: Images, short_path: Path, golden: Golden) -> None:
    world = make_world(short_path / "w")
    golden.matches_path(rerun(path.read_text(), world, names_in_scripts(world, images)), path)


def typed_lines() -> list[list[str]]:
    lines = [line.removeprefix("$ ") for path in SCRIPTS for line in path.read_text().splitlines() if line[:2] == "$ "]
    return [words for line in lines if (words := Typed.parse(line, {}).words)[0] == "machine"]


def test_there_are_lines_for_every_verb() -> None:
    lines = typed_lines()
    verbs = [*COMMANDS, *ALIASES]
    assert len({" ".join(words) for words in lines}) >= LEAST
    assert [verb for verb in verbs if sum(verb in words[1:3] for words in lines) < 2] == []
