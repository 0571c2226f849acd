"""Every directory and file name of the program."""

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


@dataclass(frozen=True, kw_only=True)
class MachinePaths:
    """One machine's files: `directory` outlives the host's reboot, `runtime` need not."""

    directory: Path
    runtime: Path

    @property
    def record(self) -> Path:
        return self.directory / "record.json"

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def ignition(self) -> Path:
        return self.directory / "config.ign"

    @property
    def seed(self) -> Path:
        """The disk that cloud-init reads, where the guest is not made by Ignition."""
        return self.directory / "seed.img"

    @property
    def identity(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def new_identity(self) -> Path:
        """What a clone's guest is told until it has been up: its own keys, private ones too."""
        return self.directory / "identity.smbios"

    @property
    def host_key(self) -> Path:
        """The guest's own SSH host key, made on this side so that every connection can be checked."""
        return self.directory / "ssh_host_ed25519_key"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def efi_vars(self) -> Path:
        return self.directory / "efivars.fd"

    @property
    def serial_log(self) -> Path:
        return self.directory / "serial.log"

    @property
    def previous_serial_log(self) -> Path:
        """What `serial_log` was at the start before the last."""
        return self.directory / "serial.log.1"

    @property
    def ignition_journal(self) -> Path:
        return self.directory / "ignition-journal.log"

    @property
    def qemu_log(self) -> Path:
        return self.directory / "qemu.log"

    @property
    def folders_log(self) -> Path:
        """What virtiofsd and others that carry folders say."""
        return self.directory / "folders.log"

    @property
    def supervisor_log(self) -> Path:
        return self.directory / "supervisor.log"

    @property
    def older_supervisor_log(self) -> Path:
        """What was in `supervisor_log` until it was full."""
        return self.directory / "supervisor.log.1"

    @property
    def service_log(self) -> Path:
        """What a service that starts the machine says, where the host keeps no log of services."""
        return self.directory / "autostart.log"

    @property
    def lock(self) -> Path:
        """Held by the supervisor and by QEMU: the machine runs while it is held."""
        return self.directory / "lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor alone: there is at most one, also where QEMU has outlived another."""
        return self.directory / "supervisor.lock"

    @property
    def record_lock(self) -> Path:
        """Held for the moment in which the record is read, changed and written."""
        return self.directory / "record.lock"

    @property
    def console_lock(self) -> Path:
        """Held by whoever is attached to the serial console."""
        return self.directory / "console.lock"

    @property
    def runtime_link(self) -> Path:
        """Leads to `runtime` as it was at init: another session's environment must not move a machine's sockets."""
        return self.directory / _RUNTIME_LINK

    @property
    def control_socket(self) -> Path:
        return self.runtime / "control.sock"

    @property
    def qmp_socket(self) -> Path:
        return self.runtime / "qmp.sock"

    @property
    def qmp_tools_socket(self) -> Path:
        """A second QMP server, for everything but the supervisor: QMP serves one client at a time."""
        return self.runtime / "qmp-tools.sock"

    @property
    def ports_socket(self) -> Path:
        """Where the port API of guest Podman is answered."""
        return self.runtime / "ports.sock"

    @property
    def ports_table(self) -> Path:
        """The forwards that were granted, for a supervisor that takes over."""
        return self.runtime / "ports.json"

    @property
    def folders_table(self) -> Path:
        """What carries which of the host's folders, for a supervisor that takes over."""
        return self.runtime / "folders.json"

    def folder_socket(self, number: int) -> Path:
        """Where the virtiofsd of a folder listens for QEMU."""
        return self.runtime / f"folder{number}.sock"

    @property
    def console(self) -> Path:
        """What QEMU knows the serial console by: it adds `.in` and `.out`."""
        return self.runtime / "console"

    @property
    def console_input(self) -> Path:
        """A FIFO, which QEMU reads."""
        return self.runtime / "console.in"

    @property
    def console_output(self) -> Path:
        """Leads to `serial_log`, which QEMU writes."""
        return self.runtime / "console.out"

    @property
    def ready_socket(self) -> Path:
        return self.runtime / "ready.sock"

    @property
    def podman_socket(self) -> Path:
        return self.runtime / "podman.sock"

    @property
    def podman_root_socket(self) -> Path:
        return self.runtime / "podman-root.sock"

    def api_socket(self, *, rootful: bool) -> Path:
        """The one of the two that leads to root's or to the user's Podman."""
        return self.podman_root_socket if rootful else self.podman_socket

    @property
    def ssh_control(self) -> Path:
        return self.runtime / "ssh.ctl"


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
    def registry_lock(self) -> Path:
        """Held while ports are reserved and clients' files are changed: old Podman clients do not lock theirs."""
        return self.machines / ".lock"

    @property
    def streams(self) -> Path:
        """The local stream: the base folder of the metadata of images that were built on this host."""
        return self.data / "streams"

    @property
    def saved(self) -> Path:
        """What is kept of machines that were removed."""
        return self.data / "saved"

    @property
    def stream_metadata(self) -> Path:
        """What servers have told of streams."""
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
    """The program's directories; none is made. `MACHINE_HOME` moves all of them."""
    home = environment.get(HOME_VARIABLE)
    if home:
        base = Path(home).absolute()
        runtime = short_runtime_directory(base / "run", host_os, uid)
        return Roots(data=base / "data", runtime=runtime, cache=base / "cache", config=base / "config")
    from platformdirs import PlatformDirs  # its import takes a part of the time of `machine ls`

    directories = PlatformDirs(APPLICATION, appauthor=False)
    return Roots(
        data=directories.user_data_path,
        runtime=short_runtime_directory(_runtime_directory(environment, host_os, uid), host_os, uid),
        cache=directories.user_cache_path,
        config=directories.user_config_path,
    )


def config_home(environment: Mapping[str, str], home: Path) -> Path:
    """Where every program keeps what its user has configured: $XDG_CONFIG_HOME or its default."""
    wanted = Path(environment.get("XDG_CONFIG_HOME", ""))
    return wanted if wanted.is_absolute() else home / ".config"


def _runtime_directory(environment: Mapping[str, str], host_os: HostOS, uid: int) -> Path:
    """Where sockets go: platformdirs warns where $XDG_RUNTIME_DIR is not set, and has no private place on macOS."""
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
    """Where sockets go for want of a better place."""
    return Path(f"/tmp/b2p-{uid}")  # noqa: S108  (make_private checks whose it is)


def longest_socket_path(runtime: Path) -> int:
    """Bytes of the longest path that a socket below this runtime directory can have."""
    return len(os.fsencode(runtime)) + 1 + MAX_NAME_LENGTH + 1 + _LONGEST_SOCKET_NAME


def short_runtime_directory(wanted: Path, host_os: HostOS, uid: int) -> Path:
    """`wanted`, or a short directory named after its hash where socket paths below it would be too long."""
    if longest_socket_path(wanted) <= host_os.traits.socket_path_limit:
        return wanted
    import hashlib

    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:8]
    return fallback_directory(uid) / digest


def make_private(path: Path) -> Path:
    """Make a directory that is this user's alone, and check that it is.

    Raises:
        MachineError: somebody else owns it, it is a link, or it cannot be made.
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
