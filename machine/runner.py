"""Run programs and wait for their end. machine.async_runner is the counterpart for asyncio."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from machine.errors import DeadlineError, MachineError, ProgramError, reason_of

log = logging.getLogger(__name__)

# Podman's variable: the first directory in which it looks for helper programs.
HELPERS_VARIABLE = "CONTAINERS_HELPER_BINARY_DIR"

Argument = str | os.PathLike[str]

# A word of a command line that has more lines is logged without those in the middle.
_LOGGED_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Completed:
    returncode: int
    stdout: str
    stderr: str


def words_of(argv: Sequence[Argument]) -> list[str]:
    """Return a command line with its paths converted to strings."""
    return [os.fspath(word) for word in argv]


def find_program(name: str) -> str | None:
    """Return the path of an installed program, or None if it is not installed."""
    helpers = os.environ.get(HELPERS_VARIABLE)
    return (shutil.which(name, path=helpers) if helpers else None) or shutil.which(name)


def run(
    argv: Sequence[Argument],
    *,
    timeout_s: float,
    check: bool = True,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: Path | None = None,
) -> Completed:
    """Run a program to its end. Capture its output, or append it to the file `output` if one is given.

    The program gets our environment, LC_ALL=C for English messages, and the variables in `environment`.

    Raises:
        ProgramError: the exit status is not 0, and `check` is set.
        DeadlineError: the program ran longer than `timeout_s`.
        MachineError: the program is not installed, or cannot be run.
    """
    words = words_of(argv)
    log.debug("run: %s", logged(words))
    with output.open("ab") if output else contextlib.nullcontext() as sink, machine_errors(words, cwd):
        result = subprocess.run(
            words,
            input=None if stdin is None else stdin.encode(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT if sink else subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            cwd=cwd,
            timeout=timeout_s,
            check=False,
        )
    completed = _completed(result.returncode, result.stdout, result.stderr)
    if check and completed.returncode != 0:
        raise program_error(words, completed)
    return completed


def run_together(
    commands: Sequence[Sequence[Argument]], *, timeout_s: float, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Run programs at the same time, and return what each has written to stdout. After `timeout_s`, they are killed.

    The programs get our environment, LC_ALL=C for English messages, and the variables in `environment`.

    Raises:
        ProgramError: an exit status is not 0.
        DeadlineError: a program ran longer than `timeout_s`.
        MachineError: a program is not installed, or cannot be run.
    """
    until = time.monotonic() + timeout_s
    whole = {**os.environ, "LC_ALL": "C", **(environment or {})}
    outputs = []
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(running(argv, output=subprocess.PIPE, errors=subprocess.PIPE, environment=whole))
            for argv in commands
        ]
        for argv, process in zip(commands, processes, strict=True):
            words = words_of(argv)
            with machine_errors(words):
                output, errors = process.communicate(timeout=max(0.0, until - time.monotonic()))
            completed = _completed(process.returncode, output, errors)
            if completed.returncode != 0:
                raise program_error(words, completed)
            outputs.append(completed.stdout)
    return outputs


def interact(argv: Sequence[Argument]) -> int:
    """Run a program on our terminal, and return its exit status as a shell does: 128 plus N if signal N ended it.

    ^C is left to the program. A request to end is passed on to it. When the program stops itself, we stop, too.

    Raises:
        MachineError: the program is not installed, or cannot be run.
    """
    words = words_of(argv)
    log.debug("run: %s", logged(words))
    with contextlib.ExitStack() as stack, machine_errors(words):
        process: subprocess.Popen[bytes] | None = None
        early: list[int] = []

        def pass_on(number: int, _: object) -> None:
            if process:
                process.send_signal(number)
            else:
                early.append(number)

        # Not SIG_IGN, which the program would inherit.
        for ignored in (signal.SIGINT, signal.SIGQUIT):
            stack.enter_context(_handling(ignored, lambda *_: None))
        for passed in (signal.SIGTERM, signal.SIGHUP):
            stack.enter_context(_handling(passed, pass_on))
        process = subprocess.Popen(words)
        for number in early:
            process.send_signal(number)
        return _await_end(process)


def _await_end(process: subprocess.Popen[bytes]) -> int:
    while True:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        # ssh stops itself at ~^Z. The shell takes the terminal back only if this program is stopped, too.
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(process.pid, signal.SIGCONT)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


@contextlib.contextmanager
def _handling(number: signal.Signals, handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle a signal during the block, unless it is ignored, as SIGHUP is under nohup(1)."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def stream(argv: Sequence[Argument], *, stdin: str, timeout_s: float) -> Completed:
    """Run a program whose stderr the user sees, and return its exit status and stdout.

    Raises:
        DeadlineError: the program ran longer than `timeout_s`.
        MachineError: the program is not installed, or cannot be run.
    """
    words = words_of(argv)
    log.debug("run: %s", logged(words))
    with machine_errors(words):
        result = subprocess.run(words, input=stdin.encode(), stdout=subprocess.PIPE, timeout=timeout_s, check=False)
    return _completed(result.returncode, result.stdout, None)


def _completed(returncode: int, output: bytes | None, errors: bytes | None) -> Completed:
    return Completed(
        returncode=returncode,
        stdout=(output or b"").decode(errors="replace"),
        stderr=(errors or b"").decode(errors="replace"),
    )


@contextlib.contextmanager
def running(
    argv: Sequence[Argument],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    output: int | IO[bytes] = subprocess.DEVNULL,
    errors: int | IO[bytes] = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program during the block. If the program still runs at the end of the block, kill it.

    `environment` replaces our own environment, unless it is None.

    Raises:
        MachineError: the program is not installed, or cannot be run.
    """
    words = words_of(argv)
    log.debug("run: %s", logged(words))
    with machine_errors(words):
        process = subprocess.Popen(words, stdin=stdin, stdout=output, stderr=errors, pass_fds=pass_fds, env=environment)
    try:
        yield process
    finally:
        process.kill()
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        process.wait()


def logged(words: Sequence[str]) -> str:
    """Return a command line for the log (pure). A script in it is shortened to its first and last line."""
    return shlex.join([_without_middle(word) for word in words])


def _without_middle(text: str) -> str:
    lines = text.split("\n")
    return text if len(lines) <= _LOGGED_LINES else f"{lines[0]} … {len(lines) - 2} lines … {lines[-1]}"


@contextlib.contextmanager
def machine_errors(words: Sequence[str], cwd: Path | None = None) -> Iterator[None]:
    """Raise a MachineError if the program cannot be started or does not end in time."""
    try:
        yield
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise
        raise MachineError(f"{words[0]} is not installed on this host") from error
    except OSError as error:  # not executable, or built for another CPU
        raise MachineError(f"{words[0]} cannot be run: {reason_of(error)}") from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"{words[0]} did not end within {error.timeout:.0f} s") from error


def program_error(argv: Sequence[str], completed: Completed) -> ProgramError:
    """Return the error for a failed program: its name, its exit status, and the last line of its output."""
    lines = [line for line in (completed.stderr or completed.stdout).splitlines() if line.strip()]
    last_line = f": {lines[-1].strip().rstrip('.')}" if lines else ""
    code = completed.returncode
    ending = f"was killed by signal {-code}" if code < 0 else f"failed with exit status {code}"
    return ProgramError(
        f"{Path(argv[0]).name} {ending}{last_line}", returncode=code, details=lines[-20:] if len(lines) > 1 else ()
    )
