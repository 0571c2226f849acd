"""Programs that run together, and what the log says of one that is run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from machine.errors import DeadlineError, MachineError, ProgramError
from machine.runner import logged, run_together


def test_command_line_is_logged_as_a_shell_would_take_it() -> None:
    assert logged(["ssh", "-p", "2222", "core@host", "echo 'a b'"]) == """ssh -p 2222 core@host 'echo '"'"'a b'"'"''"""


def test_script_is_logged_by_its_first_and_last_line() -> None:
    script = "\n".join(["sh -c '#!/bin/sh", *(f"line {number}" for number in range(40)), "done' sshfs rw 1000 /src"])
    assert logged(["ssh", script, "a\nb"]) == (
        """ssh 'sh -c '"'"'#!/bin/sh … 40 lines … done'"'"' sshfs rw 1000 /src' 'a\nb'"""
    )


def test_programs_that_run_together_take_no_longer_than_one(tmp_path: Path) -> None:
    # Each waits for the other.
    a, b = tmp_path / "a", tmp_path / "b"
    scripts = [
        f"touch {mine}; while ! test -e {other}; do sleep 0.01; done; echo {mine}" for mine, other in ((a, b), (b, a))
    ]
    assert run_together([["sh", "-c", script] for script in scripts], timeout_s=30) == [f"{a}\n", f"{b}\n"]


def test_more_than_a_pipe_holds_comes_from_each() -> None:
    command = ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]
    assert [len(output) for output in run_together([command, command], timeout_s=30)] == [300_000, 300_000]


def test_one_that_fails_is_the_error_of_all() -> None:
    with pytest.raises(ProgramError) as caught:
        run_together([["true"], ["sh", "-c", "echo no >&2; exit 3"]], timeout_s=30)
    assert caught.value.line == "sh failed with exit status 3: no"
    with pytest.raises(MachineError, match=r"^/nonexistent is not installed on this host$"):
        run_together([["true"], ["/nonexistent"]], timeout_s=30)


def test_those_that_do_not_end_are_killed() -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"^sleep did not end within"):
        run_together([["sleep", "60"], ["sleep", "60"]], timeout_s=0.1)
    assert time.monotonic() - began < 30
