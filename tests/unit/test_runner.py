"""Programs that run together, and what the log says of one that is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def interacting(script: str) -> subprocess.Popen[bytes]:
    code = "import sys; from machine.runner import interact; sys.exit(interact(['sh', '-c', sys.argv[1]]))"
    # Who runs the tests may ignore signals, as nohup does, and a shell cannot trap those that it finds ignored.
    caught = ["/usr/bin/env", "--default-signal=HUP,INT,TERM"]
    return subprocess.Popen(
        [*caught, sys.executable, "-c", code, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -KILL $$", 137)])
def test_status_of_a_program_on_our_terminal_is_as_a_shell_tells_it(script: str, status: int) -> None:
    with interacting(script) as process:
        assert process.wait(30) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_program_on_our_terminal_is_asked_to_end_when_we_are(number: signal.Signals) -> None:
    with interacting("trap 'exit 7' TERM HUP; echo; while :; do sleep 0.1; done") as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(30) == 7


def test_interrupt_is_left_to_the_program_on_our_terminal() -> None:
    with interacting("echo; read line; exit 3") as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(30) == 3


def test_program_on_our_terminal_that_stops_itself_stops_us() -> None:
    with interacting("kill -STOP $$; exit 4") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 4
