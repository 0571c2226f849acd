"""What `machine doctor` makes of what it has seen: pure functions from facts to checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from machine.errors import MachineError
from machine.image.web import public_url
from machine.model.arch import Arch
from machine.model.check import Check, Status, failure, ok, warning
from machine.model.config import Resources
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS, Installer
from machine.model.obstacle import Obstacle
from machine.model.settings import BUILT_IN, EffectiveSetting
from machine.model.state import MachineState, State, SupervisorState
from machine.model.transport import Transport
from machine.model.units import GIB, MIB, bytes_size
from machine.podman import legacy
from machine.qemu.acceleration import (
    HardwareSupport,
    QemuFacts,
    check_network,
    check_version,
    choose_accelerator,
    slowness,
)
from machine.qemu.firmware import FirmwareFiles
from machine.ssh.client import Client
from machine.store.filesystem import DirectoryFacts
from machine.store.paths import longest_socket_path

# Below the first nothing can be begun; an image of Fedora CoreOS needs about the second, packed and unpacked.
_NO_ROOM = 256 * MIB
_LITTLE_ROOM = 4 * GIB
# A source tree with its dependencies; systemd lets everybody have 524,288.
_ENOUGH_FILES = 65_536

# What lacks links, modes or Unix sockets; what other hosts hold; what ends with this host's power.
_POOR = frozenset({"exfat", "exfat-fuse", "fuseblk", "msdos", "ntfs", "ntfs3", "vfat"})
_REMOTE = frozenset(
    {"9p", "afpfs", "afs", "ceph", "cifs", "fuse.sshfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs", "webdav"}
)
_MEMORY = frozenset({"ramfs", "tmpfs"})

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# No clock was right when it showed less: this program is younger.
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_SET_CLOCK = {HostOS.LINUX: "timedatectl set-ntp true", HostOS.MACOS: "sntp -sS time.apple.com"}
_CLOCK_TOLERANCE = timedelta(minutes=10)


def failed(name: str, error: MachineError, remedy: str = "") -> Check:
    """What keeps machines from being made, in the words of the error that would be met."""
    return failure(name, error.message, error.hint or remedy)


# The programs

QEMU_IMG = {
    Installer.APT: "qemu-utils", Installer.DNF: "qemu-img", Installer.PACMAN: "qemu-img",
    Installer.ZYPPER: "qemu-tools", Installer.BREW: "qemu",
}  # fmt: skip
OPENSSH = {
    Installer.APT: "openssh-client", Installer.DNF: "openssh-clients", Installer.PACMAN: "openssh",
    Installer.ZYPPER: "openssh-clients", Installer.BREW: "openssh",
}  # fmt: skip
GPGV = {
    Installer.APT: "gpgv", Installer.DNF: "gnupg2", Installer.PACMAN: "gnupg", Installer.ZYPPER: "gpg2",
    Installer.BREW: "gnupg",
}  # fmt: skip
PODMAN = dict.fromkeys(Installer, "podman")


def architecture_check(host: Host, arch: Arch | None) -> Check:
    if arch is None:
        return failure(
            "architecture",
            f"there are no guests of this host's architecture, {host.machine}",
            f"use a host with one of: {', '.join(Arch)}",
        )
    return ok("architecture", f"{host.os} on {host.machine}, as the guests")


def qemu_check(facts: QemuFacts, arch: Arch, host: Host) -> Check:
    try:
        check_version(facts, arch, host)
    except MachineError as error:
        return failed("qemu", error)
    return ok("qemu", f"{facts.path}, version {facts.dotted}")


def network_check(facts: QemuFacts, arch: Arch, host: Host) -> Check:
    try:
        check_network(facts, arch, host)
    except MachineError as error:
        return failed("network", error)
    return ok("network", "QEMU has user networking")


def accelerator_check(
    choice: AcceleratorChoice, arch: Arch, host: Host, support: HardwareSupport, facts: QemuFacts
) -> Check:
    """Of a machine of the host's own architecture."""
    try:
        chosen = choose_accelerator(choice, arch, host, support, facts)
    except MachineError as error:
        return failed("accelerator", error)
    if chosen.accelerator is Accelerator.TCG:
        finding = f"guests are emulated (tcg) and {slowness(arch, host)} times slower"
        if not chosen.obstacle:
            return ok("accelerator", f"{finding}, as it was chosen")
        return warning("accelerator", f"{finding}: {chosen.obstacle.reason}", chosen.obstacle.remedy or "")
    return ok("accelerator", f"{chosen.accelerator} works")


def firmware_check(arch: Arch, found: FirmwareFiles | MachineError | None, *, native: bool) -> Check:
    """`found` is None for guests that need none; those of another architecture are not what a host must run."""
    name = "firmware" if native else f"firmware {arch}"
    match found:
        case None:
            return ok(name, f"{arch} guests need none")
        case FirmwareFiles():
            return ok(name, str(found.code))
        case MachineError() if native:
            return failed(name, found)
        case MachineError():
            return warning(name, found.message, found.hint or "")


def folders_check(obstacles: Mapping[Transport, Obstacle], host: Host, max_files: int) -> Check:
    """Which transports bring this host's folders into a machine: without `obstacles`, the best first.

    virtiofs is several times faster than the others. It needs an open file for each one that the guest knows of, and a
    program may have `max_files`.
    """
    usable = [transport.value for transport in Transport if transport not in obstacles]
    obstacle = obstacles.get(Transport.VIRTIOFS)
    remedy = obstacle.remedy if obstacle else None
    if not usable:
        reasons = "; ".join(str(obstacles[transport]) for transport in Transport)
        remedy = remedy or host.install_hint({Installer.BREW: "qemu"}, "a QEMU that has 9p")
        return warning("folders", f"no folder of this host can be in a machine: {reasons}", remedy)
    finding = f"machines can have folders of this host by {', '.join(usable)}"
    if obstacle and host.os is HostOS.LINUX:
        return warning(
            "folders", f"{finding}; not by virtiofs: {obstacle}", remedy or f"{usable[0]} works, but is slower"
        )
    if not obstacle and max_files < _ENOUGH_FILES:
        few = f"{finding}; by virtiofs a folder of more than {max_files} files may be told to have too many open"
        return warning("folders", few, "raise the hard limit nofile (limits.conf(5)), or use: --volume-driver 9p")
    return ok("folders", finding)


def ssh_check(client: Client, host: Host, *, has_keygen: bool) -> Check:
    remedy = host.install_hint(OPENSSH, "OpenSSH's client")
    if client.obstacle:
        return failure("ssh", f"{client.path} ({client.version}) cannot carry sockets: {client.obstacle}", remedy)
    if not has_keygen:
        return failure("ssh", "ssh-keygen is not installed on this host", remedy)
    return ok("ssh", f"{client.path}, {client.version}")


def keys_check(count: int, unusable: Sequence[Path], directory: Path) -> Check:
    """`count` are the keys that signatures are checked by; `unusable` those files of the user's that hold none."""
    if unusable:
        names = ", ".join(path.name for path in unusable)
        return warning("keys", f"no OpenPGP public key is in {names}", f"mend or remove it in {directory}")
    if not count:
        return failure("keys", "this program came without Fedora's keys", "install boot2podman again")
    return ok("keys", f"{count} signing keys are trusted")


def podman_check(client: legacy.Client | None, host: Host, connections: Path) -> Check:
    if client is None:
        return warning(
            "podman",
            "there is no podman on PATH; machines can be reached by machine ssh and by Docker's clients",
            host.install_hint(PODMAN, "podman"),
        )
    version = ".".join(map(str, client.version)) if client.version else "of unknown version"
    if client.is_legacy:
        return ok("podman", f"{client.path} {version}, which keeps connections in containers.conf and is told of ours")
    return ok("podman", f"{client.path} {version}, which reads {connections}")


def client_files_check(name: str, facts: DirectoryFacts, finding: str) -> Check:
    """A directory of a client's, in which `machine init` writes."""
    if problem := _unwritable(facts):
        return failure(name, problem, _make_writable(facts))
    return ok(name, finding)


# The directories


def directory_check(  # noqa: PLR0911  (a table)
    name: str, facts: DirectoryFacts, *, keeps: bool, little: int = _LITTLE_ROOM
) -> Check:
    """One of our own; `keeps` says that it has to outlive the host's power, `little` is too little room for comfort."""
    free, where = bytes_size(facts.free_bytes), f"{facts.path} on {facts.file_system or 'a file system'}"
    if problem := _unwritable(facts):
        return failure(name, problem, _make_writable(facts))
    if facts.file_system in _POOR:
        return failure(
            name, f"{where}, which has neither links nor sockets", "set MACHINE_HOME to a directory on another disk"
        )
    if facts.free_bytes < min(_NO_ROOM, little):
        return failure(name, f"{where} has {free} free", f"free some space on the disk that holds {facts.nearest}")
    if facts.free_bytes < little:
        return warning(
            name, f"{where} has {free} free, which a new image may exceed", "machine image prune, or free some space"
        )
    if keeps and facts.file_system in _REMOTE:
        return warning(
            name,
            f"{where}, which is slow for disks and may not keep locks",
            "set MACHINE_HOME to a directory on a disk of this host",
        )
    if keeps and facts.file_system in _MEMORY:
        return warning(
            name,
            f"{where}, which ends with this host's power",
            "set MACHINE_HOME to a directory on a disk of this host",
        )
    return ok(name, f"{where}, {free} free")


def _unwritable(facts: DirectoryFacts) -> str:
    """Why nothing can be written there, empty where it can."""
    if not facts.is_directory:
        return f"{facts.nearest} is not a directory"
    if not facts.writable:
        beyond = "" if facts.exists else f", so {facts.path} cannot be made"
        return f"{facts.nearest} may not be written{beyond}"
    return ""


def _make_writable(facts: DirectoryFacts) -> str:
    if not facts.is_directory:
        return f"move {facts.nearest} out of the way"
    return f"make {facts.nearest} writable for this user"


@dataclass(frozen=True, kw_only=True)
class SessionFacts:
    """What the runtime directory depends on; `lingers` says that the user's outlives the last logout.

    `session` is what the session's variable holds, `login` the directory that a login makes.
    """

    session: str
    login: Path
    fallback: Path
    uid: int
    lingers: bool


def runtime_check(facts: DirectoryFacts, session: SessionFacts, host_os: HostOS) -> Check:
    """Where sockets go."""
    name = "runtime directory"
    longest, limit = longest_socket_path(facts.path), host_os.traits.socket_path_limit
    found = directory_check(name, facts, keeps=False, little=MIB)
    if found.status is not Status.OK:
        return found
    if facts.exists and facts.owner != session.uid:
        return failure(name, f"{facts.path} belongs to another user", "remove it, or set MACHINE_HOME to another place")
    if host_os is HostOS.LINUX and facts.path.is_relative_to(session.login) and not session.lingers:
        return warning(
            name, f"{facts.path} goes, and machines' sockets with it, when you log out", "loginctl enable-linger"
        )
    if facts.path == session.fallback:
        variable = host_os.traits.session_variable
        why = f"{variable} is not a directory of yours" if session.session else f"{variable} is not set"
        return warning(
            name,
            f"{facts.path}, which clean-ups of /tmp may empty, as {why}",
            "log in as this user instead of using su or sudo, or set MACHINE_HOME",
        )
    if facts.path.is_relative_to(session.fallback):
        return ok(name, f"{facts.path}: in the usual place, paths of sockets would be longer than {limit} bytes")
    return ok(name, f"{facts.path}; paths of sockets have up to {longest} of {limit} bytes")


# Settings and resources


def settings_check(chosen: Mapping[str, EffectiveSetting]) -> Check:
    sources = sorted({setting.origin for setting in chosen.values()} - {BUILT_IN})
    return ok("settings", f"from {', '.join(sources)}" if sources else "the built-in defaults: no file says otherwise")


def resources_check(resources: Resources, host: Host, available_mib: int | None) -> Check:
    """`available_mib` is the host's memory that programs can have now, None where it does not tell."""
    asked = (
        f"a new machine has {resources.cpus} of {host.cpus} CPUs and {resources.memory_mib} of {host.memory_mib} MiB"
    )
    if available_mib is not None and available_mib < resources.memory_mib:
        return warning(
            "resources",
            f"{asked}, of which only {available_mib} are available now",
            "end other programs, or give new machines less: machine config set memory MIB",
        )
    return ok("resources", asked)


# Machines that are there


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """`base` is the image that its disk needs, None where it needs none or has it; `log` is its supervisor's."""

    name: str
    state: MachineState
    log: Path
    has_disk: bool
    base: Path | None
    refetch: str


def machine_checks(machines: Sequence[MachineFacts], broken: Mapping[str, MachineError]) -> list[Check]:
    """One for each machine with a problem, or one for all."""
    found = [warning(f"machine {name}", error.message, error.hint or "") for name, error in broken.items()]
    found += [check for machine in machines if (check := _machine_check(machine))]
    if found:
        return found
    count = {0: "no machine is there yet", 1: "1 machine, and nothing is wrong with it"}
    return [ok("machines", count.get(len(machines), f"{len(machines)} machines, and nothing is wrong with them"))]


def _machine_check(machine: MachineFacts) -> Check | None:
    name, state = f"machine {machine.name}", machine.state
    if state.state is State.DEGRADED:
        remedy = {
            SupervisorState.WORKING: f"see {machine.log}",
            SupervisorState.SILENT: f"machine stop {machine.name}",
            SupervisorState.GONE: f"machine start {machine.name}",
        }[state.supervisor]
        return warning(name, f"it is degraded: {state.reason}", remedy)
    if machine.base is not None:
        return warning(name, f"its base image {machine.base} is missing", f"machine image pull {machine.refetch}")
    if not machine.has_disk:
        return warning(name, "its disk is missing", f"restore it, or: machine rm --force {machine.name}")
    return None


def autostart_check(services: Mapping[str, str], gone: Collection[str], *, lingers: bool) -> Check:
    """`services` are the programs of the services by the names of their machines; `gone` are those not there."""
    if gone:
        name = min(name for name, program in services.items() if program in gone)
        why = f"runs {services[name]}, which is not there" if services[name] else "names no program"
        finding = f"{name} does not start when you log in: its service {why}"
        return warning("autostart", finding, f"machine autostart enable {name}")
    if not services:
        return ok("autostart", "no machine starts when you log in")
    when = "when the host boots" if lingers else "when you log in"
    return ok("autostart", f"{', '.join(sorted(services))} {'starts' if len(services) == 1 else 'start'} {when}")


def drafts_check(leftovers: Collection[Path]) -> Check:
    if leftovers:
        names = ", ".join(path.name for path in leftovers)
        return warning("drafts", f"an init or rm that was killed has left {names}", "the next machine init removes it")
    return ok("drafts", "no half-made machine was left behind")


# Network and time, without asking anybody


def proxies_check(environment: Mapping[str, str], host_os: HostOS) -> Check:
    used = {}
    for name in _PROXIES:
        small, large = environment.get(name, ""), environment.get(name.upper(), "")
        if small and large and small != large:
            return warning(
                "proxies", f"{name} and {name.upper()} differ, and the first holds", f"unset one of them: unset {name}"
            )
        if value := small or large:
            used[name if small else name.upper()] = value
    for name, value in used.items():
        if not _is_proxy(value):
            return failure(
                "proxies", f"{name}={public_url(value)} names no proxy", f"unset {name}, or set http://HOST:PORT"
            )
    if not used and host_os is HostOS.MACOS:
        # requests asks macOS where no variable tells; guests are told of variables alone.
        return ok("proxies", "no variable names one: downloads go as System Settings say, and guests have none")
    if not used:
        return ok("proxies", "none; downloads go directly to their servers")
    return ok("proxies", ", ".join(f"{name}={public_url(value)}" for name, value in used.items()))


def _is_proxy(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def certificates_variable(environment: Mapping[str, str]) -> tuple[str, Path] | None:
    """The variable that decides on the certificates of downloads, and the file that it names."""
    return next(((name, Path(environment[name])) for name in _CERTIFICATES if environment.get(name)), None)


def certificates_check(variable: tuple[str, Path] | None, *, readable: bool) -> Check:
    if variable is None:
        return ok("certificates", "those that come with this program")
    name, path = variable
    if not readable:
        return failure("certificates", f"{name} names {path}, which cannot be read", f"unset {name}")
    return ok("certificates", f"{path}, as {name} says")


def clock_check(now: datetime, known: Collection[datetime], host_os: HostOS) -> Check:
    """`known` are moments that have been: machines that were made, images that were fetched."""
    latest = max((*known, _EPOCH))
    if now + _CLOCK_TOLERANCE < latest:
        return warning(
            "clock",
            f"this host's clock shows {now:%Y-%m-%d %H:%M} UTC, and it has been {latest:%Y-%m-%d %H:%M} before: "
            "certificates and signatures may be refused",
            f"set the clock: sudo {_SET_CLOCK[host_os]}",
        )
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC, later than everything that was made here")
