"""`machine console` and `machine logs` on a real QEMU: its guest is a boot sector that says a line and echoes."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine import lock
from tests.support.processes import is_idle, machine_processes
from tests.support.world import COMMAND_S, Outcome, World, machine_program

# An emulated guest on a busy host echoes some kilobytes a second.
BUSY_S = 240
GREETING = b"\x1b[2J\x1b[32mThe guest\x1b[0m listens\x07\r\n"
SHOWN = "\x1b[32mThe guest\x1b[0m listens"

# 16-bit x86 at 7C00h; DX is a register of the first UART.
ECHO = bytes.fromhex(
    "fc 31c0 8ed8 be347c"  #            cld; ds = 0; si = greeting
    "ac 84c0 7405 e81300 ebf6"  # say:  al = [si++]; zero? to hear; call put; to say
    "bafd03 ec a801 74fb"  #      hear: until the line status says that a byte has come
    "baf803 ec e80200 ebef"  #          al = the byte; call put; to hear
    "88c4 bafd03 ec a820 74fb"  # put:  until the line status says that there is room
    "88e0 baf803 ee c3"  #              the byte = al; ret
)


@pytest.fixture
def box(world: World, tmp_path: Path) -> Iterator[World]:
    """A world in which `box` is starting, and its guest has spoken."""
    sector = (ECHO + GREETING + b"\0").ljust(510, b"\0") + b"\x55\xaa"
    disk = tmp_path / "echo.raw"
    disk.write_bytes(sector + bytes(1024**2))
    world.init("box", disk)
    with world.popen("start", "box") as process:
        try:
            until(lambda: b"listens" in serial_log(world), process)
            yield world
        finally:
            world.machine("kill", "box")
            process.communicate(timeout=COMMAND_S)
    assert not machine_processes(world.home)


def serial_log(world: World, name: str = "serial.log") -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return (world.machines / "box" / name).read_bytes()
    return b""


def until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + BUSY_S
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, world: World, *words: str) -> None:
        self.ours, self.its = pty.openpty()
        self.process = subprocess.Popen(
            ["/usr/bin/env", "--default-signal=INT", machine_program(), *words],
            env={**world.environment, "TERM": "xterm", "NO_COLOR": ""}, cwd=world.root,
            stdin=self.its, stdout=self.its, stderr=self.its,
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in (self.ours, self.its):
            os.close(descriptor)

    def read_until(self, words: bytes) -> bytes:
        seen = b""
        end = time.monotonic() + BUSY_S
        while words not in seen:
            readable, _, _ = select.select([self.ours], [], [], max(0, end - time.monotonic()))
            assert readable, seen
            seen += os.read(self.ours, 65536)
        return seen

    def rest(self) -> bytes:
        """What is left to read when the command has ended."""
        self.process.wait(COMMAND_S)
        seen = b""
        while select.select([self.ours], [], [], 0.1)[0]:
            seen += os.read(self.ours, 65536)
        return seen

    @property
    def modes(self) -> int:
        return int(termios.tcgetattr(self.its)[3])

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)


RAW = termios.ICANON | termios.ECHO | termios.ISIG


def with_input(world: World, data: bytes, *words: str) -> Outcome:
    done = subprocess.run(
        [machine_program(), *words], env=world.environment, cwd=world.root, input=data, capture_output=True,
        timeout=BUSY_S, check=False,
    )  # fmt: skip
    return Outcome(status=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode())


def test_person_types_to_the_guest_every_key_but_the_one_that_leaves(box: World) -> None:
    with Terminal(box, "console", "box") as terminal:
        before = terminal.modes
        assert before & RAW == RAW
        greeting = terminal.read_until(b"machine ssh box`.\r\n").decode()
        assert greeting.splitlines() == [
            "Attached to the serial console of box. Press ctrl-] to leave.",
            "You cannot log in here, because no user has a password. Instead, use `machine ssh box`.",
        ]
        until(lambda: not terminal.modes & RAW)
        terminal.type(b"hello\x03\x1a\x1c\n!")
        # Once: by the guest, whose bytes no terminal of ours has changed.
        assert terminal.read_until(b"!") == b"hello\x03\x1a\x1c\n!"
        terminal.type(b"\x1dnot for the guest")
        assert terminal.rest().endswith(b"Left the console of box\r\n")
        assert terminal.process.returncode == 0
        assert terminal.modes == before
    assert b"not for" not in serial_log(box)


@pytest.mark.parametrize("ending", [signal.SIGTERM, None], ids=["sigterm", "end of the machine"])
def test_terminal_is_itself_again_however_the_console_ends(ending: signal.Signals | None, box: World) -> None:
    with Terminal(box, "console", "box") as terminal:
        before = terminal.modes
        until(lambda: not terminal.modes & RAW)
        if ending:
            terminal.process.send_signal(ending)
        else:
            box.machine("kill", "box")
        said = terminal.rest()
        assert terminal.modes == before
        assert terminal.process.returncode == (130 if ending else 0)
        assert (b"The console of box has closed, because the machine has stopped\r\n" in said) == (ending is None)


def test_script_s_input_is_sent_as_it_is_and_its_end_ends_the_command(box: World) -> None:
    data = bytes(range(1, 128)) * 40  # more than QEMU takes at once, and the key that a person leaves with
    done = with_input(box, data, "console", "box")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.encode() == data
    assert serial_log(box).endswith(data)
    assert with_input(box, b"", "console", "box") == Outcome(status=0, stdout="", stderr="")


def test_second_one_is_told_who_is_attached_and_the_next_one_is_served(box: World) -> None:
    with Terminal(box, "console", "box") as terminal:
        terminal.read_until(b"machine ssh box`")
        refused = with_input(box, b"x", "console", "box")
        assert (refused.status, refused.stdout) == (125, "")
        assert refused.stderr == (
            f'Error: another command is attached to the console of "box" (process {terminal.process.pid}); '
            "to watch its output, use: machine logs --follow box\n"
        )
        terminal.type(b"still here")
        terminal.read_until(b"still here")
    assert with_input(box, b"next", "console", "box").stdout == "next"
    assert serial_log(box).endswith(b"still herenext")


def test_reader_that_is_slow_stops_neither_the_guest_nor_its_log(box: World) -> None:
    data = b"0123456789abcdef" * 1024
    ours, its = socket.socketpair()
    its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # it holds a part of this, where a pipe would hold more
    with ours, subprocess.Popen(
        [machine_program(), "console", "box"], env=box.environment, cwd=box.root, stdin=subprocess.PIPE,
        stdout=its.fileno(), stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        its.close()
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.flush()
        until(lambda: len(serial_log(box)) >= len(GREETING) + len(data))  # though nobody reads
        process.stdin.close()
        with ours.makefile("rb") as output:
            assert output.read() == data
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(BUSY_S)) == (b"", 0)
    assert serial_log(box).endswith(b"\n" + data)


def test_guest_that_does_not_read_is_an_error_in_the_end(box: World) -> None:
    qemu = lock.holder_pid(box.machines / "box" / "lock")
    assert qemu is not None
    os.kill(qemu, signal.SIGSTOP)
    try:
        done = with_input(box, b"x" * 1024**2, "console", "box")
    finally:
        os.kill(qemu, signal.SIGCONT)
    assert (done.status, done.stdout) == (125, "")
    assert done.stderr == "Error: timed out after 10 s waiting for the guest of box to read its console\n"


def test_closed_standard_stream_is_told_and_no_socket_takes_its_number(box: World) -> None:
    for redirection, stream in (("<&-", "input"), (">&-", "output")):
        shell = ["/bin/sh", "-c", f"{machine_program()} console box {redirection}"]
        done = subprocess.run(
            shell, env=box.environment, cwd=box.root, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_S, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (125, f"Error: standard {stream} is closed\n")


def test_console_of_a_machine_that_does_not_run_is_refused(world: World, tmp_path: Path) -> None:
    disk = tmp_path / "empty.raw"
    disk.write_bytes(bytes(510) + b"\x55\xaa" + bytes(1024**2))
    world.init("box", disk)
    before = world.files()
    assert with_input(world, b"", "console", "box") == Outcome(
        status=125, stdout="", stderr='Error: vm "box" is not running; start it with: machine start box\n'
    )
    assert (
        with_input(world, b"", "console", "other").stderr
        == "Error: other: VM does not exist; the only machine is box\n"
    )
    assert world.files() == before


# logs


def test_log_goes_raw_into_a_pipe_and_harmless_to_a_terminal(box: World) -> None:
    printed = subprocess.run(
        [machine_program(), "logs", "box"], env=box.environment, capture_output=True, check=True, timeout=COMMAND_S
    )
    assert printed.stdout == serial_log(box)
    assert GREETING in printed.stdout
    with Terminal(box, "logs", "box", "--tail", "1") as terminal:
        assert terminal.rest().decode() == f"{SHOWN}\r\n\x1b[0m"
        assert terminal.process.returncode == 0


def test_log_that_is_followed_goes_on_with_the_next_start(box: World) -> None:
    """Through rotation, truncation and the machine's end."""
    with box.popen("logs", "--follow", "--tail", "0", "box") as following:
        assert following.stdout is not None
        pipe = following.stdout.fileno()
        seen = ""

        def sees(words: str) -> bool:
            nonlocal seen
            while select.select([pipe], [], [], 0)[0] and (chunk := os.read(pipe, 65536)):
                seen += chunk.decode()
            return words in seen

        until(lambda: is_idle(following.pid), following)  # it follows what is there
        assert not sees("The guest")
        with_input(box, b"before", "console", "box")
        until(lambda: sees("before"), following)
        box.machine("kill", "box")
        with box.popen("start", "box") as start:
            until(lambda: sees("The guest"), following)
            box.machine("kill", "box")
            start.communicate(timeout=COMMAND_S)
        assert seen.index("before") < seen.index("The guest")
        assert box.machine("logs", "--previous", "box").stdout.endswith("before")
        assert following.poll() is None
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=COMMAND_S)[1].strip() == ""
        assert following.returncode == 130


def test_following_ends_with_the_machine_itself(world: World, tmp_path: Path) -> None:
    disk = tmp_path / "empty.raw"
    disk.write_bytes(bytes(510) + b"\x55\xaa" + bytes(1024**2))
    world.init("box", disk)
    (world.machines / "box" / "serial.log").write_text("a line\n")
    with world.popen("logs", "--follow", "box") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "a line\n"
        assert following.poll() is None
        world.machine("rm", "--force", "box")
        assert following.communicate(timeout=COMMAND_S) == ("", "")
    assert following.returncode == 0


def test_every_log_can_be_read_and_an_end_of_the_reader_is_no_error(box: World) -> None:
    supervisor = box.machine("logs", "--supervisor", "box")
    assert supervisor.stdout.rstrip("\n") in (box.machines / "box" / "supervisor.log").read_text()
    assert "qemu-system" in supervisor.stdout
    older = box.machines / "box" / "supervisor.log.1"
    older.write_text("older one\nolder two\n")
    assert box.machine("logs", "--supervisor", "box").stdout.startswith("older one\nolder two\n")
    older.unlink()
    for kind, words in (("--qemu", "QEMU's log"), ("--ignition", "Ignition's journal")):
        empty = box.machine("logs", kind, "box")
        assert (empty.status, empty.stdout, empty.stderr) == (0, "", f'The {words} of "box" is empty\n')
    (box.machines / "box" / "qemu.log").write_text("complaint\n" * 100_000)
    pipe = subprocess.run(
        ["/bin/sh", "-c", f"{machine_program()} logs --qemu box | /usr/bin/head -n 1"], env=box.environment,
        capture_output=True, text=True, check=True, timeout=COMMAND_S,
    )  # fmt: skip
    assert (pipe.stdout, pipe.stderr) == ("complaint\n", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], '"box" has no serial log yet, because the machine has not been started'),
        (["--previous"], '"box" has no previous serial log, because the machine has been started only once or never'),
        (["--qemu"], '"box" has no QEMU\'s log yet, because the machine has not been started'),
        (["--qemu", "--previous"], "the only log of the previous start is the serial log; leave out --previous"),
        (
            ["--follow", "--previous"],
            "the log of a previous start cannot be followed; leave out --follow or --previous",
        ),
    ],
)
def test_log_that_cannot_be_is_refused(words: list[str], line: str, world: World, tmp_path: Path) -> None:
    disk = tmp_path / "empty.raw"
    disk.write_bytes(bytes(510) + b"\x55\xaa" + bytes(1024**2))
    world.init("box", disk)
    done = world.machine("logs", *words, "box")
    assert (done.status, done.stdout, done.stderr) == (125, "", f"Error: {line}\n")
