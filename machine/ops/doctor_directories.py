"""Part of `machine doctor`: check the directories of machines, images and sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from machine.errors import reason_of
from machine.model.doctor_check import Check, Status, failure, ok, warning
from machine.model.host import HostOS
from machine.model.units import GIB, MIB, bytes_size
from machine.ops.shared.context import Context
from machine.store.filesystem import DirectoryFacts, file_systems, probe_directory
from machine.store.paths import fallback_directory, is_fallback, longest_socket_path
from machine.this_host import lingers

# With less free space than the first, nothing can be started. The second is about what a Fedora CoreOS image takes,
# packed and unpacked.
_NO_ROOM = 256 * MIB
_LITTLE_ROOM = 4 * GIB

# File systems without links, modes or Unix sockets; remote file systems; file systems that are empty after a reboot.
_POOR = frozenset({"exfat", "exfat-fuse", "fuseblk", "msdos", "ntfs", "ntfs3", "vfat"})
_REMOTE = frozenset(
    {"9p", "afpfs", "afs", "ceph", "cifs", "fuse.sshfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs", "webdav"}
)
_MEMORY = frozenset({"ramfs", "tmpfs"})


def directory_checks(context: Context) -> Iterator[Check]:
    """Check the data, config, cache and runtime directories of this program."""
    roots, host_os = context.roots, context.host.os
    mounts = file_systems()
    for name, directory in (("data", roots.data), ("cache", roots.cache)):
        yield check_directory(f"{name} directory", directory, mounts, partial(directory_check, keeps=True))
    little = partial(directory_check, keeps=True, little=MIB)
    yield check_directory("config directory", roots.config, mounts, little)
    judge = partial(runtime_check, session=_session(context), host_os=host_os)
    yield check_directory("runtime directory", roots.runtime, mounts, lambda _, facts: judge(facts))


def check_directory(
    name: str, directory: Path, mounts: dict[Path, str], judge: Callable[[str, DirectoryFacts], Check]
) -> Check:
    """Probe a directory, and return the check that `judge` makes of the facts, or a failure if the probe fails."""
    try:
        facts = probe_directory(directory, mounts)
    except OSError as error:
        return failure(name, f"{directory} cannot be examined: {reason_of(error)}", "make it readable for this user")
    return judge(name, facts)


def _session(context: Context) -> SessionFacts:
    uid = context.uid
    return SessionFacts(
        session=context.environment.get(context.host.os.traits.session_variable, ""),
        login=Path(f"/run/user/{uid}"),
        fallback=fallback_directory(uid),
        uid=uid,
        lingers=lingers(context.user),
    )


def directory_check(  # noqa: PLR0911  (a table)
    name: str, facts: DirectoryFacts, *, keeps: bool, little: int = _LITTLE_ROOM
) -> Check:
    """Judge a directory of this program.

    With `keeps`, the directory's content has to survive a shutdown of this host. If fewer than `little` bytes are free,
    the check is a warning.
    """
    free = bytes_size(facts.free_bytes)
    where = f"{facts.path} on {facts.file_system}" if facts.file_system else str(facts.path)
    if problem := unwritable(facts):
        return failure(name, problem, make_writable(facts))
    if facts.file_system in _POOR:
        return failure(
            name,
            f"{where}, which supports neither links nor sockets",
            "set MACHINE_HOME to a directory on another disk",
        )
    if facts.free_bytes < min(_NO_ROOM, little):
        return failure(name, f"{where} has only {free} free", f"free some space on the disk that holds {facts.nearest}")
    if facts.free_bytes < little:
        return warning(
            name,
            f"{where} has only {free} free; a new image may need more",
            "free some space, for example with: machine image prune",
        )
    if keeps and facts.file_system in _REMOTE:
        return warning(
            name,
            f"{where}, which is slow for disks and may not support locks",
            "set MACHINE_HOME to a directory on a disk of this host",
        )
    if keeps and facts.file_system in _MEMORY:
        return warning(
            name,
            f"{where}, whose content is lost when this host shuts down",
            "set MACHINE_HOME to a directory on a disk of this host",
        )
    return ok(name, f"{where}, {free} free")


def unwritable(facts: DirectoryFacts) -> str | None:
    """Return why nothing can be written to the directory, or None if the directory is writable."""
    if facts.broken_link:
        return facts.broken_link
    if not facts.is_directory:
        return f"{facts.nearest} is not a directory"
    if not facts.writable:
        consequence = "" if facts.exists else f", so {facts.path} cannot be created"
        return f"{facts.nearest} is not writable{consequence}"
    return None


def make_writable(facts: DirectoryFacts) -> str:
    """Return the remedy for a directory that is not writable."""
    if facts.broken_link:
        return "mount the disk that the link leads to, or replace the link by a directory"
    if not facts.is_directory:
        return f"move {facts.nearest} out of the way"
    return f"make {facts.nearest} writable for this user"


@dataclass(frozen=True, kw_only=True)
class SessionFacts:
    """The facts from which the runtime directory is chosen."""

    session: str
    """The value of the environment variable that holds the path of the session's directory."""

    login: Path
    """The directory that is created when the user logs in."""

    fallback: Path
    uid: int
    lingers: bool
    """Whether that directory remains after the user's last logout."""


def runtime_check(facts: DirectoryFacts, session: SessionFacts, host_os: HostOS) -> Check:
    """Judge the runtime directory, in which machines have their sockets."""
    name = "runtime directory"
    longest, limit = longest_socket_path(facts.path), host_os.traits.socket_path_limit
    found = directory_check(name, facts, keeps=False, little=MIB)
    if found.status is not Status.OK:
        return found
    if facts.exists and facts.owner != session.uid:
        return failure(
            name,
            f"{facts.path} belongs to another user",
            "remove this directory, or set MACHINE_HOME to another directory",
        )
    if host_os is HostOS.LINUX and facts.path.is_relative_to(session.login) and not session.lingers:
        return warning(
            name,
            f"{facts.path} is removed when you log out, together with the sockets of machines",
            "loginctl enable-linger",
        )
    if is_fallback(facts.path, session.uid):
        variable = host_os.traits.session_variable
        reason = f"{variable} is not a directory of this user" if session.session else f"{variable} is not set"
        return warning(
            name,
            f"{facts.path}, which may be removed when /tmp is cleaned up; it is used because {reason}",
            "log in as this user instead of using su or sudo, or set MACHINE_HOME",
        )
    if facts.path.is_relative_to(session.fallback):
        return ok(
            name,
            f"{facts.path}, because socket paths in the usual directory would be longer than {limit} bytes or not "
            "valid in a URL",
        )
    return ok(name, f"{facts.path}; socket paths take up to {longest} of {limit} bytes")
