"""What this host has to carry folders with, found and proved."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.folders.daemon import Identities, Virtiofsd, flavour_of, parse_spare
from machine.model.host import Host, HostOS, Installer

# Where distributions keep what is on nobody's PATH.
_VIRTIOFSD = (
    "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/libexec/qemu/virtiofsd",
)  # fmt: skip
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)  # fmt: skip
_TIMEOUT_S = 10.0
_PROOF_S = 5.0
# A message of vhost-user: number, version, size of what follows (docs/interop/vhost-user.rst in QEMU's source).
_HEADER = struct.Struct("=III")
_GET_FEATURES = _HEADER.pack(1, 1, 0)


def find_virtiofsd(host: Host) -> tuple[Virtiofsd | None, str]:
    """The virtiofsd of this host, or why there is none."""
    if host.os is not HostOS.LINUX:
        return None, "virtiofsd needs Linux"
    path = runner.find_program("virtiofsd") or _first(_VIRTIOFSD)
    if path is None:
        return None, "virtiofsd is not installed on this host"
    try:
        said = runner.run([path, "--help"], timeout_s=_TIMEOUT_S, check=False)
    except MachineError as error:
        return None, str(error)
    flavour, has_readonly = flavour_of(said.stdout + said.stderr)
    return Virtiofsd(path=path, flavour=flavour, has_readonly=has_readonly), ""


def virtiofsd_remedy(host: Host) -> str:
    """How to get virtiofsd; empty where it does not run."""
    if host.os is not HostOS.LINUX:
        return ""
    # Debian 12 has it in qemu-system-common, which every QEMU there comes with.
    return host.install_hint(dict.fromkeys(Installer, "virtiofsd"), "virtiofsd")


def most_open_files() -> int:
    """How many files a program of this user may have open at once."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if most == resource.RLIM_INFINITY else most


def find_sftp_server() -> str | None:
    return _first(_SFTP_SERVERS) or runner.find_program("sftp-server")


def _first(paths: Iterable[str]) -> str | None:
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def probe_identities(guest: int) -> Identities:
    """Who we are here, whoever we are in the guest."""
    uid, gid = os.getuid(), os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    spares = []
    for kind in ("subuid", "subgid"):
        try:
            spares.append(parse_spare(Path("/etc", kind).read_text(), name, uid))
        except (OSError, ValueError):
            spares.append(None)
    return Identities(uid=uid, gid=gid, guest=guest, spare_uids=spares[0], spare_gids=spares[1])


def usable_command(commands: Iterable[Sequence[str]]) -> tuple[Sequence[str] | None, str]:
    """The first of virtiofsd's command lines with which it serves, or why none of them does: tried, not guessed."""
    reason = "it has no identities for the guest's users (see subuid(5))"
    for command in commands:
        reason = _obstacle(command)
        if not reason:
            return command, ""
    return None, f"virtiofsd does not run: {reason}"


def _obstacle(command: Sequence[str]) -> str:
    """Why it answers no message; it is in its sandbox when it does."""
    # Not in the machine's directory: its name may be long.
    with tempfile.TemporaryDirectory(prefix="b2p-") as directory, tempfile.TemporaryFile() as words:
        path = os.path.join(directory, "s")  # noqa: PTH118
        with listening(path) as listener:
            try:
                process = subprocess.Popen(
                    with_listener(command, listener),
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    pass_fds=(listener.fileno(),),
                )
            except OSError as error:
                return str(error.strerror)
        try:
            if _answers(path, process):
                return ""
        finally:
            process.kill()
            process.wait()
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    return said.rpartition("\n")[2] or f"it ended with status {process.returncode}"


def _answers(path: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _PROOF_S
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(0.1)
        client.connect(path)
        client.sendall(_GET_FEATURES)
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                return len(client.recv(_HEADER.size)) == _HEADER.size
    return False


def listening(path: str | Path) -> socket.socket:
    """A socket that virtiofsd takes over: so nobody has to wait until it listens."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    os.chmod(path, 0o600)  # noqa: PTH101
    listener.listen(1)
    return listener


def with_listener(command: Sequence[str], listener: socket.socket) -> list[str]:
    return [*command, f"--fd={listener.fileno()}"]
