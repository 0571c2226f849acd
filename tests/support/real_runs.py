"""Which verbs and flags have run on real guests: recorded by the tests that boot guests, shown in tests/README.md.

A command counts if it has succeeded. What `init` and `set` were given counts when a start of the machine has succeeded,
and so does `image pull` of the machine's image.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import click
import pytest

from machine.cli.flags import _Line
from machine.cli.main import ALIASES, cli
from machine.errors import EXIT_INTERRUPTED
from machine.ops.up_file import FILE_NAME
from tests.support import golden

REPOSITORY = Path(__file__).parents[2]
RECORD = REPOSITORY / "tests" / "real_runs.json"

LISTED_WITH_FLAGS = ("init", "set", "start")
"""The verbs whose flags are listed, too."""

GUEST = "boot2podman"

_ENDLESS = {"events"}
"""What runs until it is interrupted."""

_SHOWN_BY_A_START = {"init", "set", "clone", "rename"}
"""What counts only when the machine has started afterwards."""

_USUAL_FILES = {"up": FILE_NAME}
"""The file that a verb reads if `--file` names no other."""

_COMMON = {"--help", "--log-level"}
_TESTS = REPOSITORY / "tests"
_SUPPORT = _TESTS / "support"
_RUNNERS = {
    _SUPPORT / "world.py", _SUPPORT / "waiting.py", _SUPPORT / "faults" / "rig.py", _SUPPORT / "faults" / "trial.py",
    Path(__file__),
}  # fmt: skip

_KEPT = pytest.StashKey[list["RealRuns"]]()

Record = dict[str, dict[str, str]]
"""The place in the tests where each verb and flag has run, by guest."""


def tracked() -> set[str]:
    """Return all verbs, and the flags of those that are listed with flags."""
    found = set()
    for verb, command in _commands((), cli):
        found.add(verb)
        if verb in LISTED_WITH_FLAGS:
            found |= {f"{verb} {flag}" for flag in map(flag_of, _options(command)) if flag not in _COMMON}
    return found


def _commands(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(words), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from _commands((*words, name), child)


def _options(command: click.Command) -> list[click.Option]:
    # Not get_params(), which makes click keep a help option for the wrong context.
    return [param for param in command.params if isinstance(param, click.Option)]


def flag_of(param: click.Option) -> str:
    return max(param.opts, key=len)


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """A parsed command line of `machine`: its verb, its flags with their values, and its arguments."""

    verb: str
    flags: Mapping[str, str]
    arguments: tuple[str, ...]


def parse(words: Sequence[str]) -> CommandLine | None:
    """Parse a command line without running anything; None if it names no verb."""
    command: click.Command = cli
    context = click.Context(cli, **cli.context_settings)
    verb: tuple[str, ...] = ()
    while True:
        line = _Line(command, context)
        try:
            line.read(words)
        except click.UsageError:
            return None
        if not isinstance(command, click.Group):
            break
        child = command.get_command(context, line.arguments[0]) if line.arguments else None
        if child is None or child.name is None:
            return None
        verb, words = (*verb, child.name), line.arguments[1:]
        command, context = child, click.Context(child, parent=context, **child.context_settings)
    flags = dict(option.partition("=")[::2] for option in line.options)
    names = {param.name: flag_of(param) for param in _options(command)}
    flags |= {names[name]: str(on) for name, on in line.switches.items() if name in names}
    return CommandLine(verb=" ".join(verb), flags=flags, arguments=tuple(line.arguments))


class Process(Protocol):
    """A process that was started. Its status is None until it has been waited for."""

    returncode: int | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A command line that was run, from which place in the tests, and the text of its `--file`."""

    words: tuple[str, ...]
    process: Process
    place: str
    file: str | None = None

    @property
    def keys(self) -> dict[str, object]:
        """The keys of the file."""
        return tomllib.loads(self.file or "")

    @property
    def tables(self) -> dict[str, dict[str, object]]:
        """The keys of each machine, with the defaults, if the file is a machines file."""
        document = tomllib.loads(self.file or "")
        return {name: {**document.get("defaults", {}), **own} for name, own in document.get("machine", {}).items()}


@dataclass(kw_only=True)
class _Machine:
    guest: str
    has_been_up: bool = False
    pending: dict[str, str] = field(default_factory=dict)
    """What counts when the machine has started, with the place of each."""


@dataclass(kw_only=True)
class RealRuns:
    """The command lines of one world, in the order in which they began."""

    runs: list[Run] = field(default_factory=list)

    def add(self, words: Sequence[str], process: Process, directory: Path) -> None:
        line = parse(words)
        path = line.flags.get("--file", _USUAL_FILES.get(line.verb)) if line else None
        file = directory / path if path else None
        text = file.read_text() if file and file.is_file() else None
        self.runs.append(Run(words=tuple(words), process=process, place=_place(), file=text))

    def record(self) -> Record:
        """Return what has run on which guests."""
        found: Record = {}
        machines: dict[str, _Machine] = {}
        pulled: dict[str, str] = {}
        for run in self.runs:
            line = parse(run.words)
            if line is None or not _has_succeeded(line.verb, run.process.returncode):
                continue
            if line.verb == "image pull":
                pulled |= dict.fromkeys(line.arguments, run.place)
            starts = line.verb in ("start", "restart", "up") or (line.verb == "init" and "--now" in line.flags)
            for machine in _concerned(line, run, machines):
                uses = dict.fromkeys(_uses(line, run), run.place)
                if line.verb in _SHOWN_BY_A_START:
                    machine.pending |= uses
                    if line.verb == "init" and (place := pulled.get(_image(line, run.keys))):
                        machine.pending["image pull"] = place
                elif starts or machine.has_been_up:
                    _note(uses, machine, found)
                if starts:
                    _note(machine.pending, machine, found)
                    machine.pending = {}
                    machine.has_been_up = True
        return found


def _note(uses: Mapping[str, str], machine: _Machine, found: Record) -> None:
    for use, place in uses.items():
        found.setdefault(use, {}).setdefault(machine.guest, place)


def _uses(line: CommandLine, run: Run) -> list[str]:
    """Return the verb, and the verb with each flag that it was given if its flags are listed."""
    flags = (*line.flags, *_flags_of(run.keys)) if line.verb in LISTED_WITH_FLAGS else ()
    return [line.verb, *(f"{line.verb} {flag}" for flag in flags)]


def _has_succeeded(verb: str, status: int | None) -> bool:
    return status == 0 or (status == EXIT_INTERRUPTED and verb in _ENDLESS)


def _concerned(line: CommandLine, run: Run, machines: dict[str, _Machine]) -> list[_Machine]:
    """Return the machines that a command has been about, and add those that it has made."""
    if line.verb == "init":
        name = line.arguments[0] if line.arguments else str(run.keys.get("name", "podman-machine-default"))
        machines[name] = _Machine(guest=_guest(line, run.keys))
        return [machines[name]]
    if line.verb == "up":
        for name, keys in run.tables.items():
            machines.setdefault(name, _Machine(guest=_guest(line, keys)))
    if line.verb == "rename":
        machines[line.arguments[-1]] = machines.pop(line.arguments[0])
        return [machines[line.arguments[-1]]]
    if line.verb == "clone":
        machines[line.arguments[-1]] = _Machine(guest=machines[line.arguments[0]].guest)
    named = {word.partition(":")[0] for word in line.arguments}
    return [machine for name, machine in machines.items() if name in named] or list(machines.values())


def _guest(line: CommandLine, keys: Mapping[str, object]) -> str:
    """Return what the guest of a new machine is: our image if nothing else is said, as the tests' mirror serves it."""
    image = _image(line, keys)
    arch = line.flags.get("--arch", "x86_64")
    distribution = GUEST
    if image.startswith("debian:"):
        distribution = "Debian's cloud image"
    elif Path(image).name.startswith("fedora-coreos-"):  # as fedora_shape.py calls it
        distribution = "the shape of Fedora CoreOS"
    return distribution if arch == "x86_64" else f"{distribution}, {arch}"


def _image(line: CommandLine, keys: Mapping[str, object]) -> str:
    return line.flags.get("--image-path") or line.flags.get("--image", str(keys.get("image", GUEST)))


def _flags_of(keys: Mapping[str, object]) -> list[str]:
    """Return the flags that the keys of a file for `init --file` stand for."""
    return [f"--{key.replace('_', '-')}" for key in keys]


def _place() -> str:
    """Return the file and the function of the innermost frame in the tests, but for the code that runs programs."""
    frame = sys._getframe(1)
    while frame.f_back:
        path = Path(frame.f_code.co_filename)
        is_named = not frame.f_code.co_name.startswith("<")  # a lambda is not
        if is_named and path.is_relative_to(_TESTS) and path not in _RUNNERS:
            return f"{path.relative_to(REPOSITORY).as_posix()}::{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "?"


# The record in the checkout


def load() -> Record:
    record: Record = json.loads(RECORD.read_text())
    return record


def updated(old: Record, new: Record) -> Record:
    """Return the record after a run of some of the tests. What no longer exists is dropped."""
    uses = sorted({*old, *new} & tracked())
    return {use: dict(sorted({**old.get(use, {}), **new.get(use, {})}.items())) for use in uses}


def keep(config: pytest.Config, runs: RealRuns | None) -> None:
    """Keep what a world has run until the end of the session."""
    assert runs is not None
    config.stash.setdefault(_KEPT, []).append(runs)


def finish(session: pytest.Session, exitstatus: int, directory: Path) -> None:
    """Update the record if that was asked for; else fail a run of all tests in `directory` that lacks something in it.

    Only guests that have run are looked at, because a host may lack the images of others.
    """
    config = session.config
    found: Record = {}
    for runs in config.stash.get(_KEPT, []):
        for use, places in runs.record().items():
            found[use] = {**places, **found.get(use, {})}
    if config.getoption(golden.UPDATE):
        RECORD.write_text(f"{json.dumps(updated(load(), found), indent=2, ensure_ascii=False)}\n")
    elif exitstatus == 0 and is_whole(config, directory) and (missing := lost(load(), found)):
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        reporter.write_line(f"{RECORD.name} says that this has run, but it has not: {'; '.join(missing)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_whole(config: pytest.Config, directory: Path) -> bool:
    """Return whether all tests in a directory are to run."""
    chosen = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    within = any(directory.is_relative_to(path) for path in chosen)
    return within and not (config.option.keyword or config.option.markexpr or config.option.collectonly)


def lost(record: Record, found: Record) -> list[str]:
    """Return what has not run on a guest that has run, although the record says so."""
    guests = {guest for places in found.values() for guest in places}
    return [
        f"{use} on {guest}"
        for use, places in record.items()
        for guest in places
        if guest in guests and guest not in found.get(use, {})
    ]


def wrong_places(record: Record) -> list[str]:
    """Return what has run at a place that is gone from the tests, or whose file no longer has the word."""
    # The words of a table of cases, or that tests share, are not where the test is.
    tables = [_SUPPORT / "world.py", _SUPPORT / "guest_hosts.py", *(_SUPPORT / "faults").glob("*.py")]
    runner = "".join(path.read_text() for path in tables)
    wrong = []
    for use, places in record.items():
        for guest, place in places.items():
            path, _, function = place.partition("::")
            source = (REPOSITORY / path).read_text() if (REPOSITORY / path).is_file() else ""
            is_there = f"def {function.rpartition('.')[2]}(" in source
            if not is_there or not any(word in source + runner for word in spellings(use)):
                wrong.append(f"{use} on {guest}: {place}")
    return wrong


def spellings(use: str) -> set[str]:
    """Return how the tests may write a verb or a flag: by an alias, in short, as the opposite, as the key of a file."""
    verb, _, flag = use.partition(" --")
    if not flag:
        return {f'"{word}' for word in (verb.split()[-1], *(alias for alias, name in ALIASES.items() if name == verb))}
    (option,) = (one for one in _options(dict(_commands((), cli))[verb]) if flag_of(one) == f"--{flag}")
    words = {f'"{word}' for word in (*option.opts, *option.secondary_opts)}
    return {*words, f"{flag.replace('-', '_')} = "}
