"""Runs `machine` without starting an interpreter, which takes 90 % of the time of most command lines.

A server process imports the whole program once. For each command line it forks; the child gets the arguments,
environment, directory, streams and process group of a new process, calls the program's entry point, and ends like an
interpreter. Tests of process behaviour (signals, exit, terminal, loaded modules) start real processes instead.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.support.imitated_mac import IMITATED, become_mac

# An imitated Mac has none.
_pidfd_open = os.pidfd_open
_MAX_BYTES = 256 * 1024
# Modules that the program imports only when they are needed.
_LATE = (
    "click.shell_completion", "paramiko", "platformdirs", "qemu.qmp", "requests", "rich.console", "rich.live",
    "rich.progress", "rich.table", "tomlkit",
)  # fmt: skip


@functools.cache
def warm_program(program: str) -> WarmProgram:
    """Return the server of this test process; a session fixture closes it."""
    return WarmProgram(program)


class WarmProgram:
    """The client side: starts the server and sends it command lines."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            # A shell makes background jobs, and so their children, ignore SIGINT.
            self._process = subprocess.Popen(
                ["/usr/bin/env", "--default-signal=INT", sys.executable, "-P", __file__, str(other.fileno())],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdin=subprocess.DEVNULL,
                pass_fds=(other.fileno(),),
            )

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        *,
        timeout_s: float,
        stdin: str = "",
    ) -> tuple[int, str, str]:
        """Run one command line; returns exit status (as in subprocess), standard output and standard error."""
        request = {"words": [self._program, *words], "environment": dict(environment), "directory": str(directory)}
        message = json.dumps(request).encode()
        with (
            tempfile.TemporaryFile() as input_file,
            tempfile.TemporaryFile() as stdout,
            tempfile.TemporaryFile() as stderr,
            contextlib.ExitStack() as stack,
        ):
            input_file.write(stdin.encode())
            input_file.seek(0)
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            try:
                files = [input_file.fileno(), stdout.fileno(), stderr.fileno(), writing]
                socket.send_fds(self._socket, [message], files)
            finally:
                os.close(writing)
            status = self._status(reading, [self._program, *words], timeout_s)
            texts = []
            for stream in (stdout, stderr):
                stream.seek(0)
                # Universal newlines, as in subprocess.
                texts.append(
                    "\n".join(stream.read().decode(errors="surrogateescape").replace("\r\n", "\n").split("\r"))
                )
        return status, texts[0], texts[1]

    @staticmethod
    def _status(reading: int, words: Sequence[str], timeout_s: float) -> int:
        """Read the child's process id and then its exit status, which the server sends."""
        deadline = time.monotonic() + timeout_s
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(reading, selectors.EVENT_READ)
            while received.count(b"\n") < 2:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    if pid := received.partition(b"\n")[0]:
                        os.kill(int(pid), signal.SIGKILL)
                        os.read(reading, 100)  # until it has ended
                    raise subprocess.TimeoutExpired(list(words), timeout_s)
                chunk = os.read(reading, 100)
                assert chunk, "the warm program has ended"
                received += chunk
        return int(received.split()[1])


def serve(requests: socket.socket) -> None:
    """Fork for each request and report each child's exit; returns only in the children."""
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    pid, writing = key.data
                    _, status = os.waitpid(pid, 0)
                    os.write(writing, f"{os.waitstatus_to_exitcode(status)}\n".encode())
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    os.close(writing)
                    continue
                message, files = receive(requests)
                if not message:
                    os._exit(0)
                pid = os.fork()
                if not pid:
                    running = [key for key in selector.get_map().values() if key.data]
                    others = [descriptor for key in running for descriptor in (key.fd, key.data[1])]
                    become(json.loads(message), files, others)
                    return
                os.write(files[3], f"{pid}\n".encode())
                selector.register(_pidfd_open(pid), selectors.EVENT_READ, (pid, files[3]))
                for descriptor in files[:3]:
                    os.close(descriptor)


def receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    files = array.array("i")
    message, ancillary, _, _ = requests.recvmsg(
        _MAX_BYTES, socket.CMSG_SPACE(4 * files.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for _, _, data in ancillary:
        files.frombytes(data)
    return message, list(files)


def become(request: dict[str, Any], files: Sequence[int], others: Sequence[int]) -> None:
    """Take on the arguments, environment, directory and streams of a new process."""
    os.setpgid(0, 0)
    for number, descriptor in enumerate(files[:3]):
        os.dup2(descriptor, number)
    for descriptor in {*files, *others}:
        os.close(descriptor)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = request["words"]
    sys.stdin, sys.stdout, sys.stderr = standard_streams()


def standard_streams() -> Iterator[io.TextIOWrapper]:
    """Create the standard streams as the interpreter does if they are not a terminal."""
    for number, mode, errors in ((0, "rb", "strict"), (1, "wb", "strict"), (2, "wb", "backslashreplace")):
        binary = open(number, mode, closefd=False)  # noqa: SIM115
        yield io.TextIOWrapper(binary, encoding="utf-8", errors=errors, line_buffering=number == 2)


def end(status: object) -> NoReturn:
    """Exit like the interpreter, but without finalizing modules, which would copy all shared memory pages."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(120)
    assert isinstance(status, int)
    os._exit(status)


def warm_up() -> None:
    import machine

    for module in pkgutil.walk_packages(machine.__path__, "machine."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    if IMITATED in os.environ:
        become_mac()
    warm_up()
    with socket.socket(fileno=int(sys.argv[1])) as own_socket:
        serve(own_socket)
    from machine.cli.entry import main

    try:
        main()
    except SystemExit as error:
        end(error.code)
