"""What is typed and what comes out, as the golden files have it.

    $ VARIABLE=value machine rm box <<< n     what is typed, with its environment and its standard input
    > The following files will be deleted:    standard output; `\\` at the end of its last line: no line feed there
    ! Error: EOF                              standard error
    = 125                                     the exit status

Spaces at the ends of lines are left out, and what differs from host to host and from run to run has a name instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.support.golden import Golden
from tests.support.world import Outcome, World, machine_program

_SCRUBBED = (
    (r"(number of host CPUs|total system memory) \(\d+( MB)?\)", r"\1 (N\2)"),
    (r"\b(?!0{64})[0-9a-f]{64}\b", "DIGEST"),
    (r"/config\.\w{8}\.toml\b", "/config.RANDOM.toml"),
    (r"/\S*/pytest-of-[^/]+/pytest-\d+/(popen-gw\d+/)?images\d+", "$IMAGES"),
    (r"/\S*/pytest-of-[^/]+/pytest-\d+/(popen-gw\d+/)?[^/\s]+", "$TMP"),
    (r"http(s?)://127\.0\.0\.1:\d+", r"http\1://SERVER"),
)
_ASIDE = ("Verifying ", "Unpacking ", "Fetching ", "  ERROR: ")
"""How lines begin that tell of an image on its way, or are qemu-img's own, which differ from version to version."""


def names_in(world: World) -> dict[str, str]:
    """The names that transcripts have for what is in a world."""
    return {"MACHINES": str(world.machines), "ROOT": str(world.root), "PROGRAM": machine_program()}


def transcribe(outcome: Outcome, names: Mapping[str, str]) -> str:
    """What came out."""
    stdout = [f"> {line}" for line in outcome.stdout.splitlines()]
    if stdout and not outcome.stdout.endswith("\n"):
        stdout[-1] += "\\"
    text = "\n".join([*stdout, *(f"! {line}" for line in outcome.stderr.splitlines())])
    return "".join(f"{line.rstrip()}\n" for line in [*scrub(text, names).splitlines(), f"= {outcome.status}"])


def scrub(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(value, f"${name}")
    for pattern, instead in _SCRUBBED:
        text = re.sub(pattern, instead, text)
    return text


def transcript(world: World, outcome: Outcome, *words: str | Path, typed: str = "", **environment: str) -> str:
    """What was typed, and what came out."""
    names = names_in(world)
    variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    line = " ".join([*variables, "machine", *(shlex.quote(str(word)) for word in words)])
    answer = f" <<< {shlex.quote(typed.removesuffix(chr(10)))}" if typed else ""
    return f"$ {scrub(line, names)}{answer}\n{transcribe(outcome, names)}"


def refuse(golden: Golden, world: World, *words: str | Path, case: str = "", **environment: str) -> Outcome:
    """A command that fails as the golden file has it, writes nothing to standard output and changes no file."""
    before = world.files()
    outcome = world.machine(*words, **environment)
    golden.matches(transcript(world, without_steps(outcome), *words, **environment), case)
    assert (outcome.status, outcome.stdout) == (125, "")
    assert world.files() == before
    assert not list(world.cache.glob(".new-*"))
    return outcome


def without_steps(outcome: Outcome) -> Outcome:
    """Without lines that are not what a test of an error is about."""
    kept = [line for line in outcome.stderr.splitlines(keepends=True) if not line.startswith(_ASIDE)]
    return Outcome(status=outcome.status, stdout=outcome.stdout, stderr="".join(kept))
