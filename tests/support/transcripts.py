"""Transcripts of command lines, for golden files.

    $ VARIABLE=value machine rm box <<< n     the command line, with its environment and its standard input
    > The following files will be deleted:    standard output; `\\` after its last line means no line feed
    ! Error: EOF                              standard error
    = 125                                     the exit status

Trailing spaces are removed, and values that differ between hosts or runs are replaced by names.
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
    (r"ssh-ed25519 AAAA[\w+/=]+", "ssh-ed25519 KEY"),
    (r"http(s?)://127\.0\.0\.1:\d+", r"http\1://SERVER"),
)
_IGNORED = ("Verifying ", "Unpacking ", "Asking for ", "Fetching ", "  ERROR: ")
"""Prefixes of progress lines, and of qemu-img's lines, which differ between its versions."""


def names_in(world: World) -> dict[str, str]:
    """Return the names that replace a world's paths in transcripts."""
    return {"MACHINES": str(world.machines), "ROOT": str(world.root), "PROGRAM": machine_program()}


def transcribe(outcome: Outcome, names: Mapping[str, str]) -> str:
    """Format the outcome of a command line."""
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


def transcript(world: World, outcome: Outcome, *words: str | Path, stdin: str = "", **environment: str) -> str:
    """Format a command line and its outcome."""
    names = names_in(world)
    variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    line = " ".join([*variables, "machine", *(shlex.quote(str(word)) for word in words)])
    answer = f" <<< {shlex.quote(stdin.removesuffix(chr(10)))}" if stdin else ""
    return f"$ {scrub(line, names)}{answer}\n{transcribe(outcome, names)}"


def refuse(golden: Golden, world: World, *words: str | Path, case: str = "", **environment: str) -> Outcome:
    """Run a command that must fail as in the golden file, write nothing to standard output and change no file."""
    before = world.files()
    outcome = world.machine(*words, **environment)
    golden.matches(transcript(world, without_steps(outcome), *words, **environment), case)
    assert (outcome.status, outcome.stdout) == (125, "")
    assert world.files() == before
    assert not list(world.cache.glob(".new-*"))
    return outcome


def without_steps(outcome: Outcome) -> Outcome:
    """Remove progress lines, which tests of errors ignore."""
    kept = [line for line in outcome.stderr.splitlines(keepends=True) if not line.startswith(_IGNORED)]
    return Outcome(status=outcome.status, stdout=outcome.stdout, stderr="".join(kept))
