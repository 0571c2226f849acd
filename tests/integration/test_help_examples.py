"""Every example of a help text, pasted into a shell.

All of them run with a `machine` that only parses its command line. Those that need no guest and no network then run for
real, in a world with two stopped machines.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from machine.cli.main import cli
from tests.support.world import World, machine_program

# What an example reads or runs besides `machine`, as its reader has it.
_PROGRAMS = ("podman", "docker", "curl", "ssh", "ignition-validate", "nano", "kubectl")
_RECORDER = """#!/bin/sh
printf '%s\\0' "$@" >"$RECORD/$$"
"""

_NO_GUEST = (
    "active", "config edit", "config get", "config set", "config unset", "export", "ignition", "image catalogue",
    "image ls", "image prune", "image verify", "info", "inspect", "ip", "list", "mount", "mount add", "mount ls",
    "mount rm", "port", "port add", "port ls", "port rm", "protect", "rename", "reset", "rm", "set", "snapshot ls",
    "ssh-config", "unprotect", "url", "clone",
)  # fmt: skip
"""Verbs whose examples run for real."""

_NEEDS_MORE = ("fcos:", "--snapshot", "kubevirt", "--cpus 4", "/srv/data", "ssh machine-box", "machine ssh")
"""Words of examples that need a fetched image, a snapshot, a folder or CPUs that this host lacks, or a guest."""


def examples() -> Iterator[tuple[str, str]]:
    """Yield each verb with each line of its examples."""
    with click.Context(cli) as context:
        yield from _examples_of("", cli, context)


def _examples_of(verb: str, command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    _, _, block = re.sub(r"Examples?:\n", "Examples:\n", command.help or "").partition("Examples:\n")
    for line in block.strip().splitlines():
        yield verb, line.strip()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from _examples_of(f"{verb} {name}".strip(), inner, context)


EXAMPLES = tuple(examples())


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A directory with the files that examples name, and with stand-ins for all programs but the shell's own."""
    _make_programs(tmp_path / "bin", {"machine": _RECORDER})
    _fill(tmp_path)
    return tmp_path


def _make_programs(directory: Path, programs: Mapping[str, str]) -> None:
    directory.mkdir()
    for name, text in {**dict.fromkeys(_PROGRAMS, "#!/bin/sh\ncat >/dev/null\n"), **programs}.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


def _fill(directory: Path) -> None:
    (directory / "src").mkdir()
    (directory / "home" / ".ssh").mkdir(parents=True, exist_ok=True)
    (directory / "home" / "src").mkdir()
    (directory / "notes.txt").write_text("notes\n")
    (directory / "units").write_text("podman.socket\n")


def paste(line: str, directory: Path, path: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=directory,
        env={**os.environ, "HOME": os.fspath(directory / "home"), "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("verb", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_example_is_a_shell_command_that_the_parser_accepts(verb: str, line: str, scratch: Path) -> None:
    record = scratch / "record"  # a file for each of the commands, which may run at the same time
    record.mkdir()
    path = f"{scratch / 'bin'}:{os.environ['PATH']}"
    done = paste(line, scratch, path, RECORD=os.fspath(record))
    assert "syntax error" not in done.stderr
    assert "command not found" not in done.stderr
    called = [file.read_text() for file in record.iterdir()]
    assert called or "machine" not in line
    for words in called:
        parse([] if words == "\0" else words.removesuffix("\0").split("\0"))


def parse(words: list[str]) -> None:
    """Parse a command line down to its last command, which is not run."""
    command: click.Command = cli
    context = command.make_context("machine", words)
    while isinstance(command, click.Group):
        name, inner, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner, words
        command = inner
        context = command.make_context(name, words, parent=context)


REAL = {
    verb: [line for own, line in EXAMPLES if own == verb and not any(words in line for words in _NEEDS_MORE)]
    for verb in _NO_GUEST
}


def test_verbs_whose_examples_run_have_some() -> None:
    assert {verb for verb, _ in EXAMPLES} >= set(_NO_GUEST)


@pytest.mark.parametrize("verb", REAL)
def test_examples_that_need_no_guest_work(verb: str, world: World, tmp_path: Path) -> None:
    world.link_tool("bash", "cat", "cp", "env", "grep", "sh")
    _make_programs(world.root / "bin", {})
    world.path = f"{Path(machine_program()).parent}:{world.root / 'bin'}:{world.path}"
    _fill(world.root)
    names = ("podman-machine-default", "box", *(["other"] if verb == "rm" else []))
    for name in names:
        make_machine(world, name)
    if verb == "port rm":
        for forward in ("8080:80", "*:5353:53/udp"):
            world.must("port", "add", "box", forward)
    if verb == "mount rm":
        world.must("mount", "add", "box", f"{world.root}/src:/src")
    kept = tmp_path / "kept"
    shutil.copytree(world.root, kept, symlinks=True)
    failed = []
    for line in REAL[verb]:
        done = world.run("bash", "-o", "pipefail", "-c", line, check=False, stdin="y\n")
        if done.status:
            failed.append(f"{line}: {done.stderr}")
        shutil.rmtree(world.root)
        shutil.copytree(kept, world.root, symlinks=True)
    assert not failed, "\n".join(failed)


def make_machine(world: World, name: str) -> None:
    world.must("init", "--image", "/dev/null", "--disk-size", "1", "--volume", "", name)
