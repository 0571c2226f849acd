"""A host that is reached over SSH: network, mounts and users of its own on this computer, with a stand-in for Podman.

Its SSH server is a real one. It needs root, because it changes what processes see of this computer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from machine.ssh import keys
from machine.store.ssh_ports import choose
from tests.support.waiting import WAIT_S, wait_until

UID = 1234
USER = "core"
SOCKET = f"/run/user/{UID}/podman/podman.sock"

_TOOLS = (
    "sh", "bash", "id", "uname", "getconf", "sed", "df", "cat", "rm", "sleep", "chown", "true", "mkdir", "touch", "ls",
    "stat", "python3", "mount", "umount", "tail", "mountpoint", "getent", "grep", "cut", "chmod", "test", "mv", "cp",
)  # fmt: skip
_PODMAN = Path(__file__).with_name("remote_podman.py")

_MAKE = """
set -e
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /run/podman /run/user/{uid}/podman
chown -R {uid} /run/user/{uid}
mount --bind {etc} /etc
echo made
exec sleep infinity
"""


@dataclass(kw_only=True)
class RemoteHost:
    """A host whose SSH server is at `port` of the loopback address. `identity` logs in as root and as core."""

    directory: Path
    port: int
    identity: Path
    host_key: str
    pid: int
    """A process that keeps the host's namespaces."""

    _speaks: threading.Event = field(default_factory=threading.Event)
    """Cleared while the network loses everything that is sent to the host."""

    _listener: socket.socket | None = None
    _sessions: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        """All programs of the host."""
        return self.directory / "bin"

    @property
    def table(self) -> str:
        """The keys by which a machines file names the host."""
        place = f"{USER}@127.0.0.1:{self.port}"
        return f'provider = "ssh"\nhost = "{place}"\nidentity = "{self.identity}"\nhost_key = "{self.host_key}"\n'

    # The network

    def go_up(self) -> None:
        """Answer at the port."""
        self._speaks.set()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._speaks.wait()
                with connection, (self.directory / "sshd.log").open("ab") as log:
                    argv = ["/usr/sbin/sshd", "-i", "-e", "-f", str(self.directory / "sshd_config")]
                    self._sessions.append(
                        self.popen(argv, stdin=connection.fileno(), stdout=connection.fileno(), stderr=log)
                    )

    def go_down(self) -> None:
        """Answer no more, and end all connections."""
        assert self._listener
        self._speaks.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.end_sessions()

    def fall_silent(self) -> None:
        """Neither answer nor end a connection any more, as when a network loses all packets."""
        self._speaks.clear()
        self._signal_sessions(signal.SIGSTOP)

    def speak_again(self) -> None:
        self._signal_sessions(signal.SIGCONT)
        self._speaks.set()

    def _signal_sessions(self, number: signal.Signals) -> None:
        for session in self._sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(session.pid)
                for process in [family, *family.children(recursive=True)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(number)

    def end_sessions(self) -> None:
        """End all connections, and what has been started over them."""
        self._signal_sessions(signal.SIGKILL)
        for session in self._sessions:
            session.wait(WAIT_S)
        self._sessions.clear()

    # What is on the host

    def popen(self, argv: Sequence[str], **streams: object) -> subprocess.Popen[bytes]:
        """Start a program on the host, as root."""
        enter = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--"]
        return subprocess.Popen([*enter, *argv], **streams)  # type: ignore[call-overload, no-any-return]

    def program(self, name: str, text: str) -> None:
        """Put a shell script on the host's PATH."""
        path = self.bin / name
        path.unlink(missing_ok=True)  # it may be a link to this computer's own program
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def has_podman(self, version: str = "4.9.4") -> None:
        (self.directory / "version").write_text(version)
        self.program("podman", f'exec python3 {self.directory}/podman.py {self.directory} "$@"')

    def has_sudo(self) -> None:
        self.program("sudo", 'test "$1" != -n || shift\nexec "$@"')

    def has_sshfs(self) -> None:
        """Have a stand-in for sshfs, whose mount has a file with the word `shared` as long as its connection lasts."""
        self.program(
            "sshfs",
            'test "$1" != -h || exit 0\nmount -t tmpfs fake "$2"\necho shared >"$2/seen"\ncat >/dev/null\numount "$2"',
        )
        self.program("modprobe", "exit 0")

    def listens(self, path: str = SOCKET) -> None:
        """Have Podman listen at a path of the host."""
        argv = [str(self.bin / "podman"), "system", "service", "--time=0", f"unix://{path}"]
        self._servers.append(self.popen(argv))
        wait_until(lambda: self.run("test", "-S", path) == 0, "Podman's socket")
        self.run("chmod", "0777", path)

    def run(self, *argv: str) -> int:
        return self.popen(argv).wait(WAIT_S)

    def read(self, path: str) -> str | None:
        """Return what a file of the host says, or None if there is no such file."""
        with self.popen(["cat", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            text = process.communicate(timeout=WAIT_S)[0].decode()
        return text if process.returncode == 0 else None

    def publishes(self, *ports: tuple[str, int, str]) -> None:
        """Have a running container that publishes these ports, each an address, a number and a protocol."""
        listed = [
            {"host_ip": address, "host_port": port, "container_port": 80, "range": 1, "protocol": protocol}
            for address, port, protocol in ports
        ]
        part = self.directory / "containers.part"
        part.write_text(json.dumps([{"State": "running", "Ports": listed}] if ports else []))
        part.replace(self.directory / "containers.json")

    def serves(self, port: int, answer: str) -> None:
        """Answer connections to a port of the host."""
        script = (
            "import socket, sys\n"
            f"server = socket.create_server(('127.0.0.1', {port}))\n"
            "while True:\n"
            "    connection, _ = server.accept()\n"
            f"    connection.sendall({answer.encode()!r})\n"
            "    connection.close()\n"
        )
        self._servers.append(self.popen([str(self.bin / "python3"), "-c", script]))

    def close(self) -> None:
        if self._listener and self._listener.fileno() >= 0:
            self.go_down()
        for server in self._servers:
            server.kill()
            server.wait(WAIT_S)


@contextlib.contextmanager
def remote_host(directory: Path) -> Iterator[RemoteHost]:
    """Run a host with an SSH server, on which neither Podman nor sudo is installed."""
    (directory / "bin").mkdir()
    (directory / "home").mkdir()
    directory.chmod(0o755)
    for tool in _TOOLS:
        found = shutil.which(tool, path=f"/usr/bin:/bin:/usr/sbin:/sbin:{os.environ['PATH']}")
        assert found, tool
        (directory / "bin" / tool).symlink_to(found)
    shutil.copy(_PODMAN, directory / "podman.py")
    host_key = keys.generate(directory / "host_key", comment="host")
    authorized = keys.generate(directory / "id_ed25519", comment="user")
    (directory / "authorized_keys").write_text(f"{authorized}\n")
    os.chown(directory / "home", UID, UID)
    # Not a mount on /etc/passwd alone, which ends when somebody makes a user on this computer.
    etc = directory / "etc"
    etc.mkdir()
    for name in ("group", "ld.so.cache"):
        shutil.copy(Path("/etc", name), etc)
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\n")
    # Without root's own settings.
    users = (
        f"root:x:0:0::{directory}:/bin/sh",
        "sshd:x:101:65534::/run/sshd:/bin/false",
        "nobody:x:65534:65534::/:/bin/sh",
    )
    (etc / "passwd").write_text("\n".join([*users, f"{USER}:x:{UID}:{UID}::{directory}/home:/bin/sh", ""]))
    (directory / "containers.json").write_text("[]")
    (directory / "sshd_config").write_text(
        f"HostKey {directory}/host_key\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\n"
        f"SetEnv PATH={directory}/bin\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    make = ["unshare", "--mount", "--net", "--kill-child", "sh", "-c", _MAKE.format(uid=UID, etc=etc)]
    with subprocess.Popen(make, stdout=subprocess.PIPE) as namespaces:
        assert namespaces.stdout
        assert namespaces.stdout.readline() == b"made\n"
        (child,) = psutil.Process(namespaces.pid).children() or [psutil.Process(namespaces.pid)]
        host = RemoteHost(
            directory=directory,
            port=choose(()),
            identity=directory / "id_ed25519",
            host_key=" ".join(host_key.split()[:2]),
            pid=child.pid,
        )
        host.go_up()
        try:
            yield host
        finally:
            host.close()
            namespaces.kill()
