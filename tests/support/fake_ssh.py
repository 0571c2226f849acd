"""A fake `ssh` that simulates a guest: it listens on the sockets of a master and answers commands."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

# Run with `python -IS`, which starts quickly.
_PROGRAM = """
import contextlib, os, re, select, socket, sys, time
from pathlib import Path

state = Path({state!r})
argv = sys.argv[1:]


def note(name, text):
    with (state / name).open("a") as stream:
        stream.write(text + "\\n")


def refuse_if_told():
    refusal = state / "refusal"
    if refusal.exists():
        status, _, text = refusal.read_text().partition(" ")
        sys.stderr.write(text)
        sys.exit(int(status))


def listen(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    return server


def answer(server):
    connection, _ = server.accept()
    with connection:
        asked = connection.recv(4096)
        body = b"[]" if b"/containers/json" in asked else b"OK"
        status = b"503 Service Unavailable" if (state / "api-fails").exists() else b"200 OK"
        with contextlib.suppress(OSError):  # whoever has asked may be gone
            connection.sendall(b"HTTP/1.1 " + status + b"\\r\\n\\r\\n" + body)


def be_master():
    refuse_if_told()
    control = re.search('ControlPath="(.+?)"', " ".join(argv))[1]
    forwards = [argv[at + 1].split(":")[0] for at, word in enumerate(argv) if word == "-L"]
    servers = [listen(path) for path in forwards]
    note("masters", str(os.getpid()))
    control = listen(control)
    while True:
        for server in select.select([*servers, control], [], [])[0]:
            if server is control:
                server.accept()[0].close()
            else:
                answer(server)


def run(command):
    refuse_if_told()
    note("commands", command)
    if "read now" in command:
        print(flush=True)
        note("clock", sys.stdin.readline().strip())
    elif re.match("sh -s -- (brief|full|try|quiet) ", command):
        sys.stdin.read()
        while (state / "hangs").exists():
            time.sleep(0.01)
        vitals = state / "vitals"
        print(vitals.read_text() if vitals.exists() else "done")
    else:
        script = sys.stdin.read()
        if "boot2podman-containers" in script and (state / "starting").exists():
            print((state / "starting").read_text(), end="")
        print("accepted" if "poweroff" in script else "done")


if "-M" in argv:
    be_master()
elif "-O" in argv:
    note("commands", " ".join(argv[argv.index("-O") :]))
else:
    run(argv[argv.index("--") + 1])
"""


class FakeSsh:
    """A fake `ssh` in `directory`/bin, its settings and a log of its use."""

    def __init__(self, directory: Path) -> None:
        self._state = directory / "ssh"
        self._state.mkdir()
        self.bin = directory / "bin"
        self.bin.mkdir()
        program = self.bin / "ssh"
        program.write_text(f"#!{sys.executable} -IS\n{_PROGRAM.format(state=os.fspath(self._state))}")
        program.chmod(0o755)

    def refuse(self, message: str = "", *, status: int = 255) -> None:
        """Make all further runs fail at once."""
        (self._state / "refusal").write_text(f"{status} {message}")

    def accept(self) -> None:
        (self._state / "refusal").unlink()

    def tell(self, *vitals: str) -> None:
        """Answer the questions of a supervisor with these lines of examine.sh."""
        new = self._state / "vitals.new"
        new.write_text("\n".join((*vitals, "done")))
        new.replace(self._state / "vitals")

    def hang(self, hangs: bool) -> None:
        """Answer no questions of a supervisor, or answer them again."""
        if hangs:
            (self._state / "hangs").touch()
        else:
            (self._state / "hangs").unlink()

    def fail_api(self, fails: bool) -> None:
        """Make the Podman sockets answer with an error, or no longer do so."""
        if fails:
            (self._state / "api-fails").touch()
        else:
            (self._state / "api-fails").unlink()

    def start_containers(self, *lines: str) -> None:
        """Say these lines about the containers that start with the guest, as await-containers.sh does."""
        (self._state / "starting").write_text("".join(f"{line}\n" for line in lines))

    @property
    def masters(self) -> list[int]:
        """The process ids of all masters so far."""
        return [int(pid) for pid in self._lines("masters")]

    def kill_master(self) -> None:
        os.kill(self.masters[-1], signal.SIGKILL)

    @property
    def commands(self) -> list[str]:
        """The commands that were run over masters, and the requests to masters by -O."""
        return self._lines("commands")

    @property
    def clocks(self) -> list[float]:
        """The times that were sent to the guest's clock."""
        return [float(line) for line in self._lines("clock")]

    def _lines(self, name: str) -> list[str]:
        file = self._state / name
        return file.read_text().splitlines() if file.exists() else []
