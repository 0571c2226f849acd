"""Find the programs on this host that can share folders, and try whether they work."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.folders.file_handles import has_file_handles
from machine.folders.sources import Source
from machine.folders.transports import TransportFacts
from machine.folders.virtiofsd import (
    Flavour,
    OwnerIds,
    Virtiofsd,
    add_subids_command,
    describe,
    parse_subids,
    virtiofsd_commands,
)
from machine.model.folders import Folder
from machine.model.host import Host, HostOS, Installer
from machine.model.obstacle import Obstacle
from machine.model.transport import TransportChoice

# Where distributions install programs that are not on PATH.
_VIRTIOFSD = (
    "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/libexec/qemu/virtiofsd",
)  # fmt: skip
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)  # fmt: skip
_SUBID_FILES = (Path("/etc/subuid"), Path("/etc/subgid"))
_UIDMAP = {
    Installer.APT: "uidmap", Installer.DNF: "shadow-utils", Installer.PACMAN: "shadow", Installer.ZYPPER: "shadow",
}  # fmt: skip
_TIMEOUT_S = 10.0
_VIRTIOFSD_FILES = 1_000_000  # what it raises its limit to
_VIRTIOFSD_ANSWER_S = 5.0
# The header of a vhost-user message: request, version, size of the payload (docs/interop/vhost-user.rst of QEMU).
_HEADER = struct.Struct("=III")
_GET_FEATURES = _HEADER.pack(1, 1, 0)


def probe_transports(
    choice: TransportChoice,
    sources: Mapping[Folder, Source | Obstacle],
    *,
    guest_uid: int,
    host: Host,
    patience: int = 1,
) -> TransportFacts:
    """Find out with which programs this host can share these folders. QEMU's devices are not probed here.

    `sources` maps each folder to its directory, or to the reason why the folder cannot be shared. Such folders are not
    tried, and neither are transports that `choice` excludes. `patience` multiplies the time for virtiofsd's answers.
    """
    owners = probe_owners(guest_uid)
    virtiofsd: Mapping[Folder, Sequence[str] | Obstacle] | Obstacle
    if choice in (TransportChoice.AUTO, TransportChoice.VIRTIOFS):
        usable = {folder: source for folder, source in sources.items() if isinstance(source, Source)}
        virtiofsd = _try_virtiofsd(usable, owners, host, patience)
    else:
        virtiofsd = Obstacle("the user chose another transport")
    return TransportFacts(is_root=owners.uid == 0, virtiofsd=virtiofsd, has_sftp_server=find_sftp_server() is not None)


def _try_virtiofsd(
    sources: Mapping[Folder, Source], owners: OwnerIds, host: Host, patience: int
) -> dict[Folder, Sequence[str] | Obstacle] | Obstacle:
    """Map each folder to a command line of virtiofsd that works, or to the reason why virtiofsd does not work."""
    found = find_virtiofsd(host, patience=patience)
    if isinstance(found, Obstacle):
        return found
    if obstacle := _namespace_obstacle(found, owners, host):
        return obstacle
    return {
        folder: usable_command(
            virtiofsd_commands(for_source(found, source), owners, replace(folder, source=source.path)),
            patience=patience,
        )
        for folder, source in sources.items()
    }


def for_source(daemon: Virtiofsd, source: Source) -> Virtiofsd:
    """Return what this virtiofsd can do with a directory."""
    return replace(daemon, passes_state_on=daemon.passes_state_on and has_file_handles(source.path))


def _namespace_obstacle(daemon: Virtiofsd, owners: OwnerIds, host: Host) -> Obstacle | None:
    """If this virtiofsd needs a user namespace that this user cannot have, return the reason, else None."""
    if daemon.flavour is not Flavour.LEGACY or owners.uid == 0:
        return None
    if owners.maps(daemon.flavour) is None:
        return Obstacle(
            "this user has no subordinate IDs for the guest's users (see subuid(5))", _add_subids(owners.uid)
        )
    if shutil.which("newuidmap") is None:
        return Obstacle(
            "newuidmap is not installed on this host", host.install_hint(_UIDMAP, "newuidmap and newgidmap")
        )
    return None


def _add_subids(uid: int) -> str | None:
    """Return the command that gives this user subordinate IDs. Return None if the user has no name."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
    return add_subids_command(name, *(_read_text(path) for path in _SUBID_FILES))


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def find_virtiofsd(host: Host, *, patience: int = 1) -> Virtiofsd | Obstacle:
    """Return the virtiofsd that is installed on this host, or the reason why this host has none."""
    if host.os is not HostOS.LINUX:
        return Obstacle("virtiofsd needs Linux")
    path = runner.find_program("virtiofsd") or _first(_VIRTIOFSD)
    if path is None:
        # In Debian 12 it is part of qemu-system-common, which every QEMU depends on.
        remedy = host.install_hint(dict.fromkeys(Installer, "virtiofsd"), "virtiofsd")
        return Obstacle("virtiofsd is not installed on this host", remedy)
    try:
        completed = runner.run([path, "--help"], timeout_s=_TIMEOUT_S * patience, check=False)
    except MachineError as error:
        return Obstacle(str(error))
    return describe(path, completed.stdout + completed.stderr)


def max_open_files() -> int:
    """Return how many files virtiofsd can have open at once, if this user runs it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return sys.maxsize
    # virtiofsd raises its limit beyond the hard limit if it may, as root may outside of most containers.
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    except (OSError, ValueError):
        return hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(hard, _VIRTIOFSD_FILES)


def find_sftp_server() -> str | None:
    """Return the path of OpenSSH's SFTP server, or None if it is not installed."""
    return _first(_SFTP_SERVERS) or runner.find_program("sftp-server")


def _first(paths: Iterable[str]) -> str | None:
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def probe_owners(guest_uid: int) -> OwnerIds:
    """Return the IDs that this user has on the host, and the ID `guest_uid` of the guest's user."""
    uid, gid = os.getuid(), os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    uids, gids = (parse_subids(_read_text(path), name, uid) for path in _SUBID_FILES)
    return OwnerIds(uid=uid, gid=gid, guest=guest_uid, subuids=uids, subgids=gids)


def usable_command(commands: Iterable[Sequence[str]], *, patience: int = 1) -> Sequence[str] | Obstacle:
    """Try command lines of virtiofsd. Return the first one that works, or the reason why none works.

    `patience` multiplies the time for virtiofsd's answer.
    """
    reason: str | None = "this user has no subordinate IDs for the guest's users (see subuid(5))"
    for command in commands:
        reason = _try_command(command, patience)
        if reason is None:
            return command
    return Obstacle(f"virtiofsd does not run: {reason}")


def _try_command(command: Sequence[str], patience: int) -> str | None:
    """Start virtiofsd for a test, and send it a message.

    Return None if virtiofsd answers, else the reason why not. virtiofsd answers only after it has set up its sandbox.
    """
    # Not in the machine's directory, whose path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="b2p-") as directory, tempfile.TemporaryFile() as output:
        path = os.path.join(directory, "s")  # noqa: PTH118
        try:
            with make_listener(path) as listener:
                argv, descriptors = with_listener(command, listener), [listener.fileno()]
                with runner.running(argv, output=output, pass_fds=descriptors) as process:
                    listener.close()  # leaves only virtiofsd's copy, so that the connection ends with virtiofsd
                    if _answers(path, process, _VIRTIOFSD_ANSWER_S * patience):
                        return None
        except MachineError as error:
            return error.message
        output.seek(0)
        last_line = output.read().decode(errors="replace").strip().rpartition("\n")[2]
    return last_line or f"it exited with status {process.returncode}"


def _answers(path: str, process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(0.1)
        client.connect(path)
        client.sendall(_GET_FEATURES)
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                return len(client.recv(_HEADER.size)) == _HEADER.size
    return False


def make_listener(path: str | Path) -> socket.socket:
    """Return a socket that listens at `path`, for virtiofsd to inherit. QEMU can connect before virtiofsd is ready."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    os.chmod(path, 0o600)  # noqa: PTH101
    listener.listen(1)
    return listener


def with_listener(command: Sequence[str], listener: socket.socket) -> list[str]:
    """Return the command line `command` of virtiofsd, with an option that names the socket `listener`.

    virtiofsd must inherit this socket, and accepts QEMU's connection on it.
    """
    return [*command, f"--fd={listener.fileno()}"]
