"""The name of every file and directory of the program."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from machine.errors import MachineError
from machine.files import DIRECTORY_PRIVATE, disk_errors
from machine.model.host import HostOS
from machine.model.names import MAX_NAME_LENGTH

APPLICATION = "boot2podman"
HOME_VARIABLE = "MACHINE_HOME"

_RUNTIME_LINK = "run"

# OpenSSH binds its control socket under a temporary name, 17 characters longer, and links it into place.
_LONGEST_SOCKET_NAME = len("ssh.ctl") + 17


class _Kept:
    """The path of a file in a machine's `directory`, as an attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, machine: MachinePaths, _: type[MachinePaths]) -> Path:
        return machine.directory / self._name


class _Volatile:
    """The path of a file in a machine's `runtime` directory, as an attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, machine: MachinePaths, _: type[MachinePaths]) -> Path:
        return machine.runtime / self._name


@dataclass(frozen=True, kw_only=True)
class MachinePaths:
    """One machine's files: `directory` outlives the host's reboot, `runtime` need not."""

    directory: Path
    runtime: Path

    record = _Kept("record.json")
    disk = _Kept("disk.qcow2")
    ignition = _Kept("config.ign")
    seed = _Kept("seed.img")
    """The disk that cloud-init reads, where the guest is not made by Ignition."""

    identity = _Kept("id_ed25519")
    rekey_table = _Kept("identity.smbios")
    """What rekeys a clone's guest at its first start: its own keys, private ones too."""

    host_key = _Kept("ssh_host_ed25519_key")
    """The guest's own SSH host key, made on this side so that every connection can be checked."""

    known_hosts = _Kept("known_hosts")
    efi_vars = _Kept("efivars.fd")
    serial_log = _Kept("serial.log")
    previous_serial_log = _Kept("serial.log.1")
    """What `serial_log` was at the start before the last."""

    ignition_journal = _Kept("ignition-journal.log")
    qemu_log = _Kept("qemu.log")
    folders_log = _Kept("folders.log")
    """What virtiofsd and other programs that share folders print."""

    supervisor_log = _Kept("supervisor.log")
    older_supervisor_log = _Kept("supervisor.log.1")
    """What was in `supervisor_log` until it was full."""

    service_log = _Kept("autostart.log")
    """What a login service that starts the machine prints, where the host keeps no log of services."""

    lock = _Kept("lock")
    """Held by the supervisor and by QEMU: the machine runs while it is held."""

    supervisor_lock = _Kept("supervisor.lock")
    """Held by the supervisor alone: there is at most one, also where QEMU has outlived another."""

    record_lock = _Kept("record.lock")
    """Held for the moment in which the record is read, changed and written."""

    console_lock = _Kept("console.lock")
    """Held by whoever is attached to the serial console."""

    runtime_link = _Kept(_RUNTIME_LINK)
    """Leads to `runtime` as it was at init: another session's environment must not move a machine's sockets."""

    control_socket = _Volatile("control.sock")
    qmp_socket = _Volatile("qmp.sock")
    qmp_tools_socket = _Volatile("qmp-tools.sock")
    """A second QMP server, for everything but the supervisor: QMP serves one client at a time."""

    ports_socket = _Volatile("ports.sock")
    """Where the port API of guest Podman is answered."""

    ports_table = _Volatile("ports.json")
    """The forwards that were granted, for a supervisor that takes over."""

    folders_table = _Volatile("folders.json")
    """Which transport each folder has, for a supervisor that takes over."""

    console = _Volatile("console")
    """The serial console's path as QEMU is given it: QEMU adds `.in` and `.out`."""

    console_input = _Volatile("console.in")
    """A FIFO, which QEMU reads."""

    console_output = _Volatile("console.out")
    """Leads to `serial_log`, which QEMU writes."""

    ready_socket = _Volatile("ready.sock")
    podman_socket = _Volatile("podman.sock")
    podman_root_socket = _Volatile("podman-root.sock")
    ssh_control = _Volatile("ssh.ctl")

    def folder_socket(self, number: int) -> Path:
        """Where the virtiofsd of a folder listens for QEMU."""
        return self.runtime / f"folder{number}.sock"

    def api_socket(self, *, rootful: bool) -> Path:
        """The one of the two that leads to root's or to the user's Podman."""
        return self.podman_root_socket if rootful else self.podman_socket


@dataclass(frozen=True, kw_only=True)
class Roots:
    """The directories that hold everything: XDG's four on Linux, their counterparts on macOS."""

    data: Path
    runtime: Path
    cache: Path
    config: Path

    @property
    def machines(self) -> Path:
        return self.data / "machines"

    @property
    def names_lock(self) -> Path:
        """Held while ports are reserved and clients' files are changed: old Podman clients do not lock theirs."""
        return self.machines / ".lock"

    @property
    def streams(self) -> Path:
        """The local stream: metadata of the images that were built on this host."""
        return self.data / "streams"

    @property
    def saved(self) -> Path:
        """What is kept of machines that were removed."""
        return self.data / "saved"

    @property
    def stream_metadata(self) -> Path:
        """Stream metadata as servers have sent it."""
        return self.cache / "streams"

    @property
    def signing_keys(self) -> Path:
        return self.data / "keys"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    @property
    def settings(self) -> Path:
        """The user's own defaults."""
        return self.config / "config.toml"

    @property
    def catalogue(self) -> Path:
        """The user's own images of other distributions."""
        return self.config / "catalogue.toml"

    @property
    def settings_lock(self) -> Path:
        return self.config / ".lock"

    def machine(self, name: str) -> MachinePaths:
        directory = self.machines / name
        try:
            runtime = (directory / _RUNTIME_LINK).readlink()
        except OSError:  # no such machine yet, or a damaged one
            runtime = self.runtime / name
        return MachinePaths(directory=directory, runtime=runtime)


def find_roots(environment: Mapping[str, str], host_os: HostOS, uid: int) -> Roots:
    """Find the program's directories without making any; `MACHINE_HOME` moves all of them."""
    home = environment.get(HOME_VARIABLE)
    if home:
        base = Path(home).absolute()
        runtime = short_runtime_directory(base / "run", host_os, uid)
        return Roots(data=base / "data", runtime=runtime, cache=base / "cache", config=base / "config")
    from platformdirs import PlatformDirs  # slow to import, and not needed where MACHINE_HOME is set

    directories = PlatformDirs(APPLICATION, appauthor=False)
    return Roots(
        data=directories.user_data_path,
        runtime=short_runtime_directory(_runtime_directory(environment, host_os, uid), host_os, uid),
        cache=directories.user_cache_path,
        config=directories.user_config_path,
    )


def config_home(environment: Mapping[str, str], home: Path) -> Path:
    """Return the directory of all programs' configuration files: $XDG_CONFIG_HOME or its default."""
    wanted = Path(environment.get("XDG_CONFIG_HOME", ""))
    return wanted if wanted.is_absolute() else home / ".config"


def _runtime_directory(environment: Mapping[str, str], host_os: HostOS, uid: int) -> Path:
    """Return where sockets go.

    platformdirs warns where $XDG_RUNTIME_DIR is not set, and has no private place on macOS.
    """
    session = environment.get(host_os.traits.session_variable, "")
    for candidate in (Path(session), Path(f"/run/user/{uid}")):
        # `su` keeps the variable of the user before; XDG wants relative ones ignored.
        if candidate.is_absolute() and _is_owned(candidate, uid):
            return candidate / APPLICATION
    return fallback_directory(uid)


def _is_owned(directory: Path, uid: int) -> bool:
    try:
        return directory.stat().st_uid == uid
    except OSError:
        return False


def fallback_directory(uid: int) -> Path:
    """Return where sockets go on a host without a runtime directory for its users."""
    return Path(f"/tmp/b2p-{uid}")  # noqa: S108  (make_private checks whose it is)


def longest_socket_path(runtime: Path) -> int:
    """Return the length in bytes of the longest socket path below a runtime directory."""
    return len(os.fsencode(runtime)) + 1 + MAX_NAME_LENGTH + 1 + _LONGEST_SOCKET_NAME


def short_runtime_directory(wanted: Path, host_os: HostOS, uid: int) -> Path:
    """Return `wanted` or, where socket paths below it would be too long, a short path made from its hash."""
    if longest_socket_path(wanted) <= host_os.traits.socket_path_limit:
        return wanted
    import hashlib

    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:8]
    return fallback_directory(uid) / digest


def make_private(path: Path) -> Path:
    """Make a directory that only this user may enter, and check that it is so.

    Raises:
        MachineError: it belongs to another user, is a link, or cannot be made.
    """
    with disk_errors(path):
        for missing in reversed([path, *path.parents]):
            if not missing.exists() and not missing.is_symlink():
                missing.mkdir(mode=DIRECTORY_PRIVATE, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise MachineError(
            f"{path} is not a directory of your own",
            hint=f"remove it or set {HOME_VARIABLE} to another place",
        )
    if stat.S_IMODE(facts.st_mode) & 0o077:
        path.chmod(DIRECTORY_PRIVATE)
    return path
