"""What this host has for sharing folders, found and tried."""

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
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.folders.transports import TransportFacts
from machine.folders.virtiofsd import OwnerIds, Virtiofsd, flavour_of, parse_spare, virtiofsd_commands
from machine.model.folders import Folder
from machine.model.host import Host, HostOS, Installer
from machine.model.obstacle import Obstacle
from machine.model.transport import TransportChoice

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


class SourceProblem(StrEnum):
    """Why a folder's source on this host cannot be shared."""

    MISSING = "missing"
    NO_DIRECTORY = "no directory"
    NO_ACCESS = "no access"

    def message(self, source: str) -> str:
        """The problem in words."""
        match self:
            case SourceProblem.MISSING:
                return f"the folder {source} does not exist on this host"
            case SourceProblem.NO_DIRECTORY:
                return f"{source} is not a directory"
            case SourceProblem.NO_ACCESS:
                return f"you may not read the folder {source}"

    @property
    def hint(self) -> str | None:
        """What to do about it."""
        return {
            SourceProblem.MISSING: "create it, or share another one",
            SourceProblem.NO_DIRECTORY: "share the directory that contains it",
        }.get(self)


def source_problem(source: str) -> SourceProblem | None:
    """Why this path cannot be shared; None where it can."""
    if not os.path.lexists(source):
        return SourceProblem.MISSING
    if not Path(source).is_dir():
        return SourceProblem.NO_DIRECTORY
    return None if os.access(source, os.R_OK | os.X_OK) else SourceProblem.NO_ACCESS


def probe_sources(folders: Iterable[Folder]) -> dict[Folder, Obstacle | None]:
    """Whether each folder's source can be shared, or why not."""
    problems = {folder: source_problem(folder.source) for folder in folders}
    return {
        folder: Obstacle(problem.message(folder.source)) if problem else None for folder, problem in problems.items()
    }


def probe_transports(
    choice: TransportChoice, folders: Iterable[Folder], *, guest_uid: int, host: Host
) -> TransportFacts:
    """What this host has for sharing these folders; QEMU has not been asked for its devices.

    Neither a transport that `choice` rules out nor a folder whose source cannot be shared is tried.
    """
    owners = probe_owners(guest_uid)
    virtiofsd: Mapping[Folder, Sequence[str]] | Obstacle
    if choice in (TransportChoice.AUTO, TransportChoice.VIRTIOFS):
        usable = [folder for folder in folders if source_problem(folder.source) is None]
        virtiofsd = _try_virtiofsd(usable, owners, host)
    else:
        virtiofsd = Obstacle("it was not asked for")
    return TransportFacts(is_root=owners.uid == 0, virtiofsd=virtiofsd, has_sftp_server=find_sftp_server() is not None)


def _try_virtiofsd(folders: Iterable[Folder], owners: OwnerIds, host: Host) -> dict[Folder, Sequence[str]] | Obstacle:
    """A command line that serves each of the folders, or why one of them has none."""
    found = find_virtiofsd(host)
    if isinstance(found, Obstacle):
        return found
    commands: dict[Folder, Sequence[str]] = {}
    for folder in folders:
        command = usable_command(virtiofsd_commands(found, owners, folder))
        if isinstance(command, Obstacle):
            return command
        commands[folder] = command
    return commands


def find_virtiofsd(host: Host) -> Virtiofsd | Obstacle:
    """The virtiofsd of this host, or why there is none."""
    if host.os is not HostOS.LINUX:
        return Obstacle("virtiofsd needs Linux")
    path = runner.find_program("virtiofsd") or _first(_VIRTIOFSD)
    if path is None:
        # Debian 12 has it in qemu-system-common, which every QEMU there comes with.
        remedy = host.install_hint(dict.fromkeys(Installer, "virtiofsd"), "virtiofsd")
        return Obstacle("virtiofsd is not installed on this host", remedy)
    try:
        completed = runner.run([path, "--help"], timeout_s=_TIMEOUT_S, check=False)
    except MachineError as error:
        return Obstacle(str(error))
    flavour, has_readonly = flavour_of(completed.stdout + completed.stderr)
    return Virtiofsd(path=path, flavour=flavour, has_readonly=has_readonly)


def max_open_files() -> int:
    """How many files a program of this user can have open at once."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def find_sftp_server() -> str | None:
    """The path of OpenSSH's SFTP server, None where it is not installed."""
    return _first(_SFTP_SERVERS) or runner.find_program("sftp-server")


def _first(paths: Iterable[str]) -> str | None:
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def probe_owners(guest_uid: int) -> OwnerIds:
    """The ids of this user here, for a guest whose user has that number."""
    uid, gid = os.getuid(), os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    uids, gids = (_spare_ids(Path("/etc", kind), name, uid) for kind in ("subuid", "subgid"))
    return OwnerIds(uid=uid, gid=gid, guest=guest_uid, spare_uids=uids, spare_gids=gids)


def _spare_ids(path: Path, name: str, uid: int) -> tuple[int, int] | None:
    try:
        return parse_spare(path.read_text(), name, uid)
    except (OSError, ValueError):
        return None


def usable_command(commands: Iterable[Sequence[str]]) -> Sequence[str] | Obstacle:
    """The first of virtiofsd's command lines that serves when it is tried, or why none does."""
    reason: str | None = "this user has no spare ids for the guest's users (see subuid(5))"
    for command in commands:
        reason = _why_it_fails(command)
        if reason is None:
            return command
    return Obstacle(f"virtiofsd does not run: {reason}")


def _why_it_fails(command: Sequence[str]) -> str | None:
    """Start virtiofsd and have it answer a message, which it does from inside its sandbox; None where it answers."""
    # Not in the machine's directory: its name may be long.
    with tempfile.TemporaryDirectory(prefix="b2p-") as directory, tempfile.TemporaryFile() as words:
        path = os.path.join(directory, "s")  # noqa: PTH118
        try:
            with listening(path) as listener:
                argv, descriptors = with_listener(command, listener), [listener.fileno()]
                with runner.running(argv, output=words, pass_fds=descriptors) as process:
                    listener.close()  # virtiofsd's copy is the only one: when it ends, the connection does
                    if _answers(path, process):
                        return None
        except MachineError as error:
            return error.message
        words.seek(0)
        last_words = words.read().decode(errors="replace").strip().rpartition("\n")[2]
    return last_words or f"it ended with status {process.returncode}"


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
    """A socket for virtiofsd to take over, so that nobody has to wait until it listens."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    os.chmod(path, 0o600)  # noqa: PTH101
    listener.listen(1)
    return listener


def with_listener(command: Sequence[str], listener: socket.socket) -> list[str]:
    """One of virtiofsd's command lines, which takes this socket over."""
    return [*command, f"--fd={listener.fileno()}"]
