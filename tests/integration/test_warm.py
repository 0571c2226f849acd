"""The warm program against real processes: what they say, how they end, and what they are given."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.world import COMMAND_S, Outcome, World


def in_a_process_of_its_own(world: World, *words: str, **environment: str) -> Outcome:
    with world.popen(*words, **environment) as process:
        stdout, stderr = process.communicate(timeout=COMMAND_S)
    return Outcome(status=process.returncode, stdout=stdout, stderr=stderr)


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ([], {}),
        (["--help"], {}),
        (["init", "--help"], {"COLUMNS": "60"}),
        (["nosuch"], {}),
        (["ls", "--format", "{{.Nosuch"], {}),
        (["rm", "nösuch\udcff"], {}),
        (["status", "nosuch"], {}),
        (["reset"], {}),
        (["config", "get"], {"MACHINE_ACCEL": "tcg"}),
        (["doctor"], {"PATH": "/nonexistent"}),
        (["info"], {"MACHINE_HOME": "/proc/nowhere"}),
        (["init", "--timezone", "local", "--image", "/nonexistent"], {"TZ": "Mars/Olympus"}),
    ],
)
def test_command_line_gives_the_same(words: list[str], environment: dict[str, str], world: World) -> None:
    real = in_a_process_of_its_own(world, *words, **environment)
    assert real.stdout or real.stderr
    assert without_what_changes(world.machine(*words, **environment)) == without_what_changes(real)


def without_what_changes(outcome: Outcome) -> Outcome:
    """What doctor says of the time, and of free memory and disks, changes from one moment to the next."""
    return replace(outcome, stdout=re.sub(r"[\d.]+ ?[MGT]iB|[\d:]+ UTC", "N", outcome.stdout))


def test_command_has_a_process_group_a_directory_and_nothing_of_the_warm_program(world: World) -> None:
    """As its child sees it: an editor, which is any program."""
    editor = world.root / "editor"
    editor.write_text(
        "#!/bin/sh\nread -r _ _ _ parent group _ </proc/self/stat\npwd; ls /proc/self/fd; env\necho $group $PPID\n"
    )
    editor.chmod(0o755)
    outcome = world.machine("config", "edit", EDITOR=str(editor), PATH=os.defpath)
    assert outcome.status == 0, outcome.stderr
    directory, *rest = outcome.stdout.splitlines()
    assert directory == str(world.root)
    descriptors = rest[: next(number for number, line in enumerate(rest) if "=" in line)]
    assert set(descriptors) <= {"0", "1", "2", "3"}
    names = {line.partition("=")[0] for line in rest if "=" in line}
    assert names - {"PWD", "_", "OLDPWD", "SHLVL"} <= {*world.environment, "EDITOR"}
    group, parent = rest[-1].split()
    assert group == parent != str(os.getpgrp())


def test_command_that_a_signal_ends_ends_by_it(world: World) -> None:
    killer = world.root / "editor"
    killer.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    killer.chmod(0o755)
    assert world.machine("config", "edit", EDITOR=str(killer), PATH=os.defpath).status == -signal.SIGKILL


def test_command_that_does_not_end_is_killed(world: World, tmp_path: Path) -> None:
    sleeper = world.root / "editor"
    sleeper.write_text(f"#!/bin/sh\necho $PPID >{tmp_path}/pid\nexec sleep 5\n")
    sleeper.chmod(0o755)
    world.timeout_s = 2
    with pytest.raises(subprocess.TimeoutExpired):
        world.machine("config", "edit", EDITOR=str(sleeper), PATH=os.defpath)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip(), "exe").exists()
