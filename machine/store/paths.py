"""Find the paths of all files and directories of the program."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from machine.errors import MachineError
from machine.files import DIRECTORY_PRIVATE, disk_errors
from machine.model.dataclass import dataclass
from machine.model.host import HostOS
from machine.model.names import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from machine.model.config import MachineConfig

APPLICATION = "boot2podman"
HOME_VARIABLE = "MACHINE_HOME"

_RUNTIME_LINK = "run"

# OpenSSH binds its control socket under a temporary name, 17 characters longer, and then links it to its own name.
_LONGEST_SOCKET_NAME = len("ssh.ctl") + 17


class _PersistentPath:
    """An attribute of MachinePaths that is the path of a file in the machine's `directory`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, machine: MachinePaths, _: type[MachinePaths]) -> Path:
        return machine.directory / self._name


class _RuntimePath:
    """An attribute of MachinePaths that is the path of a file in the machine's `runtime` directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, machine: MachinePaths, _: type[MachinePaths]) -> Path:
        return machine.runtime / self._name


@dataclass(frozen=True, kw_only=True)
class MachinePaths:
    """The paths of one machine's files. The files in `runtime` may vanish when the host reboots."""

    directory: Path
    runtime: Path

    record = _PersistentPath("record.json")
    last_good_record = _PersistentPath("record.last-good.json")
    """A copy of the `record`, which only our own commands write."""

    damaged_record = _PersistentPath("record.damaged.json")
    """A `record` that was damaged, and has been replaced by a good one."""

    disk = _PersistentPath("disk.qcow2")
    ignition = _PersistentPath("config.ign")
    seed = _PersistentPath("seed.img")
    """The disk that cloud-init reads; unused if Ignition provisions the guest."""

    identity = _PersistentPath("id_ed25519")
    public_identity = _PersistentPath("id_ed25519.pub")
    agent_key = _PersistentPath("agent_key.pub")
    """The public key of the key in the user's agent that logs in to a remote host; unused by virtual machines."""

    rekey_table = _PersistentPath("identity.smbios")
    """The SMBIOS strings that rekey a clone's guest at its first start. The strings contain private keys."""

    host_key = _PersistentPath("ssh_host_ed25519_key")
    """The guest's SSH host key, which is generated on the host so that every connection can be verified."""

    public_host_key = _PersistentPath("ssh_host_ed25519_key.pub")

    known_hosts = _PersistentPath("known_hosts")
    efi_vars = _PersistentPath("efivars.fd")
    serial_log = _PersistentPath("serial.log")
    previous_serial_log = _PersistentPath("serial.log.1")
    """The `serial_log` of the previous start."""

    ignition_journal = _PersistentPath("ignition-journal.log")
    qemu_log = _PersistentPath("qemu.log")
    folders_log = _PersistentPath("folders.log")
    """The output of virtiofsd and other programs that share folders."""

    supervisor_log = _PersistentPath("supervisor.log")
    older_supervisor_log = _PersistentPath("supervisor.log.1")
    """The previous `supervisor_log`, which was full."""

    service_log = _PersistentPath("autostart.log")
    """The output of the login service that starts the machine; unused if the host keeps a log of services."""

    lock = _PersistentPath("lock")
    """Held by the supervisor and by QEMU. While this lock is held, the machine is running."""

    supervisor_lock = _PersistentPath("supervisor.lock")
    """Held by the supervisor only, so that no second supervisor runs, even if QEMU has outlived the first."""

    waiting_lock = _PersistentPath("waiting.lock")
    """Held by the process that waits for clients while the machine is asleep."""

    snapshot_lock = _PersistentPath("snapshot.lock")
    """Held while a snapshot is taken. Clients that come meanwhile wake the machine afterwards."""

    record_lock = _PersistentPath("record.lock")
    """Held while the record is being edited."""

    console_lock = _PersistentPath("console.lock")
    """Held by the command that is attached to the serial console."""

    ports_table = _PersistentPath("ports.json")
    """The open forwards, for a supervisor that takes over from another."""

    folders_table = _PersistentPath("folders.json")
    """The transport of each mounted folder, for a supervisor that takes over from another."""

    hardware = _PersistentPath("hardware.json")
    """What QEMU was started with, as far as the `record` does not say it."""

    memory = _PersistentPath("memory.state")
    """The memory of a suspended guest. Exactly while this file exists, the machine is suspended."""

    memory_in_work = _PersistentPath("memory.state.part")
    """A `memory` that is being written, or was not written to its end."""

    suspension = _PersistentPath("suspension.json")
    """What a resume must know about the `memory`."""

    snapshots = _PersistentPath("snapshots")
    """The directory of the machine's snapshots."""

    relay = _PersistentPath("relay.py")
    """The copy of ports/relay.py that QEMU runs."""

    confine = _PersistentPath("confine.py")
    """The copy of folders/confine.py that confines SFTP servers."""

    runtime_link = _PersistentPath(_RUNTIME_LINK)
    """A link to the `runtime` that init chose, so that sessions with another environment use the same directory."""

    control_socket = _RuntimePath("control.sock")
    waiting_socket = _RuntimePath("waiting.sock")
    """The socket by which the process that waits for clients is reached."""

    qmp_socket = _RuntimePath("qmp.sock")
    qmp_tools_socket = _RuntimePath("qmp-tools.sock")
    """The QMP server for commands. A QMP server has one client at a time, and the supervisor uses the other server."""

    ports_socket = _RuntimePath("ports.sock")
    """The socket that serves the port API to Podman in the guest."""

    console = _RuntimePath("console")
    """The path of the serial console that QEMU is given; QEMU appends `.in` and `.out`."""

    console_input = _RuntimePath("console.in")
    """The FIFO from which QEMU reads the console's input."""

    console_output = _RuntimePath("console.out")
    """A link to `serial_log`, to which QEMU writes the console's output."""

    ready_socket = _RuntimePath("ready.sock")
    podman_socket = _RuntimePath("podman.sock")
    podman_root_socket = _RuntimePath("podman-root.sock")
    ssh_control = _RuntimePath("ssh.ctl")

    def folder_socket(self, number: int) -> Path:
        """Return the path of the socket between QEMU and the virtiofsd of the folder with this number."""
        return self.runtime / f"folder{number}.sock"

    def api_socket(self, *, rootful: bool) -> Path:
        """Return the path of the API socket of root's or the user's Podman."""
        return self.podman_root_socket if rootful else self.podman_socket


def identity_of(config: MachineConfig, machine: MachinePaths) -> Path:
    """Return the file of the key that logs in: the machine's own, the user's, or the public half of one in an agent."""
    if config.remote is None:
        return machine.identity
    return Path(config.remote.identity) if config.remote.identity else machine.agent_key


def is_suspended(machine: MachinePaths) -> bool:
    """Return whether the machine has a complete saved memory, from which the next start resumes."""
    return machine.memory.exists()


@dataclass(frozen=True, kw_only=True)
class Roots:
    """The program's directories for data, config, cache and runtime files, as XDG or macOS has them."""

    data: Path
    runtime: Path
    cache: Path
    config: Path

    @property
    def machines(self) -> Path:
        return self.data / "machines"

    @property
    def names_lock(self) -> Path:
        """The lock that is held while a name or port is chosen, or a machine is registered with clients.

        Old versions of Podman do not lock the files in which they register a machine, so this lock protects these
        files.
        """
        return self.machines / ".lock"

    @property
    def streams(self) -> Path:
        """The folder of the local stream, which consists of images built on this host."""
        return self.data / "streams"

    @property
    def saved(self) -> Path:
        """The directory for files that users chose to keep when they removed a machine."""
        return self.data / "saved"

    def exported(self, name: str) -> MachinePaths:
        """Return where the keys are of a machine that has been exported from a file, and is not on this host."""
        return MachinePaths(directory=self.data / "exported" / name, runtime=self.runtime / name)

    @property
    def podman_default(self) -> Path:
        """The cache of what an old Podman has told about its default connection."""
        return self.cache / "podman-default.json"

    @property
    def stream_metadata(self) -> Path:
        """The cache of fetched stream metadata."""
        return self.cache / "streams"

    @property
    def signing_keys(self) -> Path:
        return self.data / "keys"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    @property
    def settings(self) -> Path:
        """The file of the user's own defaults."""
        return self.config / "config.toml"

    @property
    def catalogue(self) -> Path:
        """The user's own catalogue of images."""
        return self.config / "catalogue.toml"

    @property
    def settings_lock(self) -> Path:
        return self.config / ".lock"

    def machine(self, name: str) -> MachinePaths:
        directory = self.machines / name
        try:
            runtime = (directory / _RUNTIME_LINK).readlink()
        except OSError:  # the machine does not exist yet, or is damaged
            runtime = self.runtime / name
        return MachinePaths(directory=directory, runtime=runtime)


def find_roots(environment: Mapping[str, str], host_os: HostOS, uid: int) -> Roots:
    """Find the program's directories without creating them. If `MACHINE_HOME` is set, all of them are below it."""
    home = environment.get(HOME_VARIABLE)
    if home:
        base = Path(home).absolute()
        runtime = short_runtime_directory(base / "run", host_os, uid)
        return Roots(data=base / "data", runtime=runtime, cache=base / "cache", config=base / "config")
    from platformdirs import PlatformDirs  # slow to import

    directories = PlatformDirs(APPLICATION, appauthor=False)
    data = directories.user_data_path
    wanted = runtime_of(data, _usual_data(host_os, uid), _runtime_directory(environment, host_os, uid))
    return Roots(
        data=data,
        runtime=short_runtime_directory(wanted, host_os, uid),
        cache=directories.user_cache_path,
        config=directories.user_config_path,
    )


def config_home(environment: Mapping[str, str], home: Path) -> Path:
    """Return the directory for the configuration of all programs: $XDG_CONFIG_HOME, or its default."""
    wanted = Path(environment.get("XDG_CONFIG_HOME", ""))
    return wanted if wanted.is_absolute() else home / ".config"


def _runtime_directory(environment: Mapping[str, str], host_os: HostOS, uid: int) -> Path:
    """Return the directory for sockets.

    platformdirs cannot be used. It warns if $XDG_RUNTIME_DIR is not set, and has no private directory on macOS.
    """
    session = environment.get(host_os.traits.session_variable, "")
    for candidate in (Path(session), Path(f"/run/user/{uid}")):
        # `su` keeps the previous user's variable; by the XDG specification, relative paths are ignored.
        if candidate.is_absolute() and _is_owned(candidate, uid):
            return candidate / APPLICATION
    return fallback_directory(uid)


def runtime_of(data: Path, usual_data: Path | None, usual_runtime: Path) -> Path:
    """Return the directory for the sockets of the machines in `data` (pure).

    Only the user's usual data directory has the usual one. Every other, as with another HOME, has a directory of its
    own, so that machines of the same name do not share their sockets. `usual_data` is None if the user has no home.
    """
    # The names of machines cannot begin with a dot.
    return usual_runtime if data == usual_data else usual_runtime / f".{_digest(data)}"


def _usual_data(host_os: HostOS, uid: int) -> Path | None:
    try:
        home = Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:  # a container may run as a user that the system does not know
        return None
    return home / host_os.traits.data_directory / APPLICATION


def _is_owned(directory: Path, uid: int) -> bool:
    try:
        return directory.stat().st_uid == uid
    except OSError:
        return False


def fallback_directory(uid: int) -> Path:
    """Return the directory for sockets on a host without runtime directories for users."""
    return Path(f"/tmp/b2p-{uid}")  # noqa: S108  (make_private checks its owner)


def is_fallback(runtime: Path, uid: int) -> bool:
    """Return whether this runtime directory was chosen because the host has no runtime directory for the user."""
    fallback = fallback_directory(uid)
    return runtime == fallback or (runtime.parent == fallback and runtime.name.startswith("."))


def longest_socket_path(runtime: Path) -> int:
    """Return the length in bytes of the longest path that a socket below this runtime directory may have."""
    return len(os.fsencode(runtime)) + 1 + MAX_NAME_LENGTH + 1 + _LONGEST_SOCKET_NAME


def short_runtime_directory(wanted: Path, host_os: HostOS, uid: int) -> Path:
    """Return `wanted`, or a short path made from its hash if clients could not use the paths of sockets below `wanted`.

    The path of a socket must not be too long, and must have no colon, which would end it in the option `--volume` of
    Podman and Docker. It must also mean the same to Docker, which reads it as plain UTF-8, and to Podman, which reads
    it as part of a URL.
    """
    if longest_socket_path(wanted) <= host_os.traits.socket_path_limit and _is_plain(wanted):
        return wanted
    return fallback_directory(uid) / _digest(wanted)


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def _is_plain(path: Path) -> bool:
    """Return whether a path is valid UTF-8, has no colon, and does not change when it is read as a part of a URL."""
    try:
        text = os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and not set("%?#:").intersection(text)


def make_private(path: Path) -> Path:
    """Create a directory that only this user may enter. If it exists, check it and correct its mode.

    Raises:
        MachineError: the directory belongs to another user, is a link, or cannot be created.
    """
    with disk_errors(path):
        for missing in reversed([path, *path.parents]):
            if not missing.exists() and not missing.is_symlink():
                missing.mkdir(mode=DIRECTORY_PRIVATE, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise MachineError(
            f"{path} is not a directory that you own",
            hint=f"remove it, or set {HOME_VARIABLE} to another directory",
        )
    if stat.S_IMODE(facts.st_mode) & 0o077:
        path.chmod(DIRECTORY_PRIVATE)
    return path
