"""A real sshd on loopback, run by the user who runs the tests, with its own keys."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from machine.ssh import keys
from machine.ssh.command import SshTarget, host_key_alias, known_hosts_line
from machine.store.ssh_ports import choose
from tests.support.processes import descendants
from tests.support.waiting import WAIT_S, wait_until


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """A running sshd; `target` is how to reach it with the key pair in `directory`."""

    directory: Path
    target: SshTarget
    pid: int

    def signal_sessions(self, number: signal.Signals) -> None:
        """Send a signal to every process that serves a connection."""
        _signal(self._sessions(), number)

    @contextlib.contextmanager
    def sessions_stopped(self) -> Iterator[None]:
        """Stop every process that serves a connection meanwhile; those that end, as their client goes, stay ended."""
        sessions = self._sessions()
        _signal(sessions, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(sessions, signal.SIGCONT)

    def _sessions(self) -> list[int]:
        sessions = descendants(self.pid)
        assert sessions, "no client is connected"
        return sessions


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def serving_sshd(directory: Path, settings: Path, *lines: str, name: str = "box") -> Iterator[Sshd]:
    """Run sshd as the guest of the machine `name`, with its clients' files in `directory` and its own in `settings`."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "sshd is needed by these tests"
    host_public = keys.generate(directory / "host_key", comment="host")
    authorized = keys.generate(directory / "id_ed25519", comment="user")
    shutil.copy(directory / "host_key", settings / "host_key")
    (settings / "authorized_keys").write_text(f"{authorized}\n")
    (directory / "known_hosts").write_text(known_hosts_line(name, host_public))
    port = choose(())
    config = settings / "sshd_config"
    common = (
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {settings}/host_key",
        f"AuthorizedKeysFile {settings}/authorized_keys",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "PidFile none",
    )
    config.write_text("\n".join([*common, *lines]) + "\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (settings / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", config], stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), "sshd")
        yield Sshd(
            directory=directory,
            target=SshTarget(
                alias=host_key_alias(name),
                port=port,
                username=getpass.getuser(),
                identity=directory / "id_ed25519",
                known_hosts=directory / "known_hosts",
            ),
            pid=process.pid,
        )
    finally:
        process.terminate()
        process.wait(WAIT_S)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
