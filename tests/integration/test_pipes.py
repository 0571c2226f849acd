"""Real pipes and signals: whoever closes one, or presses ^C, gets no word of it; a prompt that nobody answers fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from machine.cli.main import COMMANDS
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.processes import is_idle
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World, machine_program


@pytest.fixture
def box(world: World) -> World:
    """A world with the machine `box`, as far as commands can see that only look at it."""
    save_machine(make_roots(world.home), make_record())
    return world


@contextmanager
def nobody_reads() -> Iterator[int]:
    """A pipe whose other end is closed, as after `| true`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def run(world: World, *words: str, stdout: int = subprocess.PIPE, script: str = "") -> tuple[int, str, str]:
    """The exit status and what was printed; `script` is what a shell does with the command line instead."""
    argv = ["/bin/sh", "-c", script, "sh", machine_program(), *words] if script else [machine_program(), *words]
    done = subprocess.run(
        argv,
        env=world.environment,
        stdin=None if script else subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=COMMAND_S,
        check=False,
    )
    return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()


LINES = [
    *((name, "--help") for name in sorted(COMMANDS)),
    ("--help",),
    ("--version",),
    ("active",),
    ("config", "get"),
    ("config", "path"),
    ("doctor",),
    ("doctor", "--format", "json"),
    ("env", "box"),
    ("image", "ls"),
    ("info",),
    ("inspect", "box"),
    ("ip", "box"),
    ("ls",),
    ("ls", "--format", "json"),
    ("ls", "--format", "{{.Name}}"),
    ("port", "ls", "box"),
    ("reset",),
    ("rm", "box"),
    ("ssh-config", "box"),
    ("start", "box"),
    ("status", "box"),
    ("stop", "box"),
    ("url", "box"),
]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_output_that_nobody_reads_ends_quietly(words: tuple[str, ...], box: World) -> None:
    if words == ("active",):
        socket = box.machine("inspect", "--format", "{{.ConnectionInfo.PodmanSocket.Path}}", "box").stdout.strip()
        (box.root / "podman-connections.json").write_text(
            json.dumps({"Connection": {"Default": "box", "Connections": {"box": {"URI": f"unix://{socket}"}}}})
        )
    with nobody_reads() as pipe:
        status, _, stderr = run(box, *words, stdout=pipe)
    assert (status, stderr) == (1, "")
    assert make_roots(box.home).machine("box").record.exists()


@pytest.mark.parametrize("words", [("ls",), ("doctor",), ("start", "--help")], ids=" ".join)
def test_output_on_a_full_disk_is_an_error(words: tuple[str, ...], box: World) -> None:
    status, _, stderr = run(box, *words, script='exec "$@" >/dev/full')
    assert (status, stderr) == (125, "Error: No space left on device\n")


def test_output_that_is_closed_from_the_first(box: World) -> None:
    assert run(box, "ls", script='exec "$@" >&-') == (0, "", "")


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_command_that_reports_works_without_stderr(closed: str, world: World) -> None:
    words = ("init", "--image", "/dev/null", "--volume", "", "box")
    assert run(world, *words, script=f'exec "$@" {closed}')[::2] == (0, "")
    assert world.state("box") == ("stopped", "")


@pytest.mark.parametrize("words", [("rm", "box"), ("reset",)], ids=" ".join)
@pytest.mark.parametrize("stdin", ["</dev/null", "<&-", "<<E\nE"], ids=["null", "closed", "empty"])
def test_prompt_that_nobody_answers_is_podmans_error(stdin: str, words: tuple[str, ...], box: World) -> None:
    status, stdout, stderr = run(box, *words, script=f'exec "$@" {stdin}')
    assert (status, stderr) == (125, "Error: EOF; to go on without a question, add --force\n")
    assert stdout.endswith("Are you sure you want to continue? [y/N] ")
    assert make_roots(box.home).machine("box").record.exists()


@pytest.mark.parametrize("words", [("rm", "box"), ("reset",)], ids=" ".join)
def test_answer_that_is_no_text_is_a_no(words: tuple[str, ...], box: World) -> None:
    status, _, stderr = run(box, *words, script="printf '\\377\\n' | \"$@\"")
    assert (status, stderr) == (0, "")
    assert make_roots(box.home).machine("box").record.exists()


# ^C

PROGRAM = """
import os, signal, sys
from machine.cli.entry import main

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            interrupt()

sys.meta_path.insert(0, Finder())
sys.argv = ["machine", *sys.argv[1:]]
if {module!r} == "":
    import atexit
    atexit.register(interrupt)
main()
"""


def interrupted(world: World, module: str, *words: str, signals: str = "--default-signal=INT") -> tuple[int, str]:
    """The end of a command that meets ^C as it loads `module`, or as the interpreter ends."""
    done = subprocess.run(
        ["/usr/bin/env", signals, sys.executable, "-c", PROGRAM.format(module=module), *words],
        env=world.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.linux("to imitate a Mac takes long, and is interrupted")
@pytest.mark.parametrize("module", ["click", "machine.cli.main", ""], ids=["click", "main", "end"])
def test_interrupt_while_the_program_loads_or_ends_is_quiet(module: str, box: World) -> None:
    assert interrupted(box, module, "ls") == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("machine.cli.list", ("ls",)),
        ("machine.ops.list", ("ls",)),
        ("machine.ops.start", ("start", "box")),
        ("machine.ops.doctor", ("doctor",)),
        ("machine.ops.config", ("config", "get")),
        ("machine.ops.image", ("image", "ls")),
    ],
)
def test_interrupt_of_a_command_is_quiet(module: str, words: tuple[str, ...], box: World) -> None:
    status, stderr = interrupted(box, module, *words)
    assert (status, stderr.strip()) == (130, "")


@pytest.mark.linux("to imitate a Mac takes long, and is interrupted")
@pytest.mark.parametrize("words", [("events",), ("wait", "box"), ("rm", "box")], ids=" ".join)
def test_interrupt_of_a_wait_is_quiet(words: tuple[str, ...], box: World) -> None:
    reading, writing = os.pipe()  # an answer that never comes
    with subprocess.Popen(
        ["/usr/bin/env", "--default-signal=INT", machine_program(), *words],
        env=box.environment,
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(reading)
        wait_until(lambda: is_idle(process.pid), "the command to wait")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=COMMAND_S)
    os.close(writing)
    assert (process.returncode, stderr.strip()) == (130, "")
    assert make_roots(box.home).machine("box").record.exists()


def test_job_that_is_deaf_to_interrupts_stays_so(box: World) -> None:
    """As a shell's background jobs are: the signal that reaches it changes nothing."""
    status, stderr = interrupted(box, "machine.ops.list", "ls", "-q", signals="--ignore-signal=INT")
    assert (status, stderr) == (0, "")
