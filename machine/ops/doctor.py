"""`machine doctor`: a look at everything that making and starting a machine needs. Nothing is changed by it.

This module asks, and ops.checks judges. A question that cannot be asked, as an earlier one has failed, is left out.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.folders.probe import max_open_files, probe_transports
from machine.folders.transports import host_obstacles
from machine.guestimage.publish import SECRET_KEY
from machine.hosts import lingers
from machine.image.layout import base_image
from machine.image.verify import find_checker, trusted_keys, unusable_keys
from machine.model.arch import Arch
from machine.model.check import Check, failure, ok, warning
from machine.model.folders import Folder
from machine.model.host import Host, HostOS
from machine.model.names import check_username
from machine.model.obstacle import Obstacle
from machine.model.settings import EffectiveSetting, Settings, built_in, settings_of
from machine.model.transport import Transport, TransportChoice
from machine.model.units import MIB
from machine.ops import doctor_checks as checks
from machine.ops.doctor_checks import MachineFacts, SessionFacts, failed
from machine.ops.list import ListedMachine, Listing, list_machines
from machine.ops.shared import login_service
from machine.ops.shared.catalogue import find_source
from machine.ops.shared.context import Context
from machine.ops.shared.creation import guest_uid
from machine.ops.shared.defaults import effective, naming_source_of
from machine.ops.shared.images import image_cache
from machine.ops.shared.resources import check_resources
from machine.ops.shared.timezone import resolve_timezone
from machine.podman import docker_context, legacy
from machine.podman.connections import ConnectionsFile, connections_file
from machine.qemu.acceleration import QemuFacts, check_qemu
from machine.qemu.boards import BOARDS
from machine.qemu.firmware import FirmwareFiles, find_firmware
from machine.qemu.img import QemuImg
from machine.qemu.probe import find_qemu, folder_devices, probe_hardware, probe_qemu
from machine.ssh.client import find_client
from machine.store import drafts, filesystem
from machine.store.filesystem import DirectoryFacts, probe_directory
from machine.store.paths import config_home, fallback_directory

_TIMEOUT_S = 10
_MEMINFO = Path("/proc/meminfo")


def doctor(context: Context) -> list[Check]:
    """Every check, in the order in which a machine would meet them."""
    host = context.host
    chosen, settings = _settings(context)
    listing, listed = _listing(context)
    return [
        *settings,
        *_qemu_checks(context, settings_of(chosen) if chosen else built_in(host)),
        _qemu_img(host),
        _ssh(host),
        *_signatures(context),
        *_clients(context),
        *_directories(context),
        *(_resources(chosen, host) if chosen else []),
        *(listed or _machines(listing, context)),
        _autostart(context),
        checks.drafts_check(drafts.leftovers(context.roots)),
        checks.proxies_check(context.environment, host.os),
        _certificates(context),
        checks.clock_check(datetime.now(UTC), _known_moments(listing, context), host.os),
    ]


# Settings and resources


def _settings(context: Context) -> tuple[dict[str, EffectiveSetting], list[Check]]:
    """What holds for a new machine; nothing where it means nothing."""
    try:
        chosen = effective(context)
        with naming_source_of(chosen["username"]):
            check_username(str(chosen["username"].value))
        with naming_source_of(chosen["timezone"]):
            resolve_timezone(str(chosen["timezone"].value), context.environment)
        with naming_source_of(chosen["image"]):
            find_source(str(chosen["image"].value), context)
    except MachineError as error:
        return {}, [failed("settings", error, "see them with: machine config edit")]
    return chosen, [checks.settings_check(chosen)]


def _resources(chosen: dict[str, EffectiveSetting], host: Host) -> list[Check]:
    try:
        resources = check_resources(chosen, host)
    except MachineError as error:
        return [failed("resources", error, "change it with: machine config set")]
    return [checks.resources_check(resources, host, _available_memory_mib())]


def _available_memory_mib() -> int | None:
    """Linux tells it; macOS gives memory back so freely that its figures mean little."""
    with contextlib.suppress(OSError):
        if found := re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE):
            return int(found[1]) // 1024
    return None


# Programs


def _qemu_checks(context: Context, settings: Settings) -> Iterator[Check]:
    host = context.host
    try:
        arch = Arch.parse(host.machine)
    except ValueError:
        yield checks.architecture_check(host, None)
        return
    yield checks.architecture_check(host, arch)
    try:
        facts = probe_qemu(find_qemu(arch, host))
    except MachineError as error:
        yield failed("qemu", error, host.install_hint(BOARDS[arch].packages, f"another {BOARDS[arch].binary}"))
    else:
        yield checks.qemu_check(facts, arch, host)
        yield checks.network_check(facts, arch, host)
        yield checks.accelerator_check(settings.accel, arch, host, probe_hardware(host, facts), facts)
        yield checks.firmware_check(arch, _firmware(arch, facts.path, context), native=True)
        yield checks.folders_check(_folder_obstacles(facts, arch, context), host, max_open_files())
    for foreign in Arch:
        if foreign is not arch and (path := runner.find_program(BOARDS[foreign].binary)):
            yield _foreign(foreign, path, context)


def _folder_obstacles(qemu: QemuFacts, arch: Arch, context: Context) -> dict[Transport, Obstacle]:
    """Why transports cannot be used here, tried as a start tries them."""
    sample = Folder(source="/", target="/nowhere")
    uid = guest_uid(context.uid)
    facts = probe_transports(TransportChoice.AUTO, [sample], guest_uid=uid, host=context.host)
    return host_obstacles(TransportChoice.AUTO, facts.with_devices(folder_devices(qemu, arch)))


def _foreign(arch: Arch, binary: str, context: Context) -> Check:
    """One line on guests that a host need not be able to run."""
    host, board = context.host, BOARDS[arch]
    try:
        check_qemu(probe_qemu(binary), arch, host)
    except MachineError as error:
        remedy = error.hint or host.install_hint(board.packages, f"another {board.binary}")
        return warning(f"qemu {arch}", error.message, remedy)
    return checks.firmware_check(arch, _firmware(arch, binary, context), native=False)


def _firmware(arch: Arch, binary: str, context: Context) -> FirmwareFiles | MachineError | None:
    try:
        return find_firmware(
            arch, context.host, binary=binary, config_home=config_home(context.environment, context.home)
        )
    except MachineError as error:
        return error


def _qemu_img(host: Host) -> Check:
    return _program("qemu-img", QemuImg.program, host.install_hint(checks.QEMU_IMG, "qemu-img"))


def _program(name: str, program: str, remedy: str) -> Check:
    """One that has to be there and to run, with what it tells of itself."""
    try:
        told = runner.run([program, "--version"], timeout_s=_TIMEOUT_S).stdout
    except MachineError as error:
        return failed(name, error, remedy)
    first, _, _ = told.strip().partition("\n")
    return ok(name, f"{shutil.which(program)}, {first}")


def _ssh(host: Host) -> Check:
    try:
        client = find_client()
    except MachineError as error:
        return failed("ssh", error, host.install_hint(checks.OPENSSH, "OpenSSH's client"))
    return checks.ssh_check(client, host, has_keygen=shutil.which("ssh-keygen") is not None)


def _signatures(context: Context) -> Iterator[Check]:
    remedy = context.host.install_hint(checks.GPGV, "gpgv or sqv")
    try:
        yield _program("signatures", find_checker().program, remedy)
    except MachineError as error:
        yield failed("signatures", error, remedy)
    directory = context.roots.signing_keys
    unusable = [path for path in unusable_keys(directory) if path.name != SECRET_KEY]
    yield checks.keys_check(0 if unusable else len(trusted_keys(directory)), unusable, directory)


# Clients


def _clients(context: Context) -> Iterator[Check]:
    path = connections_file(context.environment, context.home)
    yield checks.podman_check(legacy.find_client(), context.host, path)
    name = "podman connections"
    try:
        known = len(ConnectionsFile(path).uris())
    except MachineError as error:
        yield failed(name, error)
    else:
        yield _client_files(name, path.parent, f"{path} has {known}" if known else f"{path} has none yet")
    contexts = docker_context.docker_config(context.environment, context.home) / "contexts" / "meta"
    program = shutil.which("docker")
    reader = f"{program} reads them" if program else "there is no docker on PATH to read them"
    yield _client_files("docker contexts", contexts, f"{contexts}; {reader}")


def _client_files(name: str, directory: Path, finding: str) -> Check:
    return _of_directory(name, directory, {}, partial(checks.client_files_check, finding=finding))


# Directories


def _directories(context: Context) -> Iterator[Check]:
    roots, host_os = context.roots, context.host.os
    mounts = _mounts(host_os)
    for name, directory in (("data", roots.data), ("cache", roots.cache)):
        yield _of_directory(f"{name} directory", directory, mounts, partial(checks.directory_check, keeps=True))
    little = partial(checks.directory_check, keeps=True, little=MIB)
    yield _of_directory("config directory", roots.config, mounts, little)
    judge = partial(checks.runtime_check, session=_session(context), host_os=host_os)
    yield _of_directory("runtime directory", roots.runtime, mounts, lambda _, facts: judge(facts))


def _of_directory(
    name: str, directory: Path, mounts: dict[Path, str], judge: Callable[[str, DirectoryFacts], Check]
) -> Check:
    try:
        facts = probe_directory(directory, mounts)
    except OSError as error:
        return failure(name, f"{directory} cannot be looked at: {error.strerror}", "make it readable for this user")
    return judge(name, facts)


def _mounts(host_os: HostOS) -> dict[Path, str]:
    if host_os is HostOS.LINUX:
        return filesystem.parse_mountinfo(filesystem.read_mounts())
    try:
        return filesystem.parse_mount(runner.run(["mount"], timeout_s=_TIMEOUT_S).stdout)
    except MachineError:
        return {}


def _session(context: Context) -> SessionFacts:
    uid = context.uid
    return SessionFacts(
        session=context.environment.get(context.host.os.traits.session_variable, ""),
        login=Path(f"/run/user/{uid}"),
        fallback=fallback_directory(uid),
        uid=uid,
        lingers=lingers(context.user),
    )


# Machines, certificates, time


def _listing(context: Context) -> tuple[Listing, list[Check]]:
    """The machines; none, with the reason, where their directory cannot be read."""
    try:
        return list_machines(context), []
    except OSError as error:
        problem = f"{error.filename} cannot be read: {error.strerror}"
        return Listing(machines=[], broken=[]), [failure("machines", problem, "make it readable for this user")]


def _machines(listing: Listing, context: Context) -> list[Check]:
    machines = [_machine(listed, context) for listed in listing.machines]
    return checks.machine_checks(machines, {broken.name: broken.error for broken in listing.broken})


def _machine(listed: ListedMachine, context: Context) -> MachineFacts:
    image = listed.record.config.image
    base = base_image(context.roots.images, image.digest) if image.digest else None
    return MachineFacts(
        name=listed.record.name,
        state=listed.state,
        log=listed.paths.supervisor_log,
        has_disk=listed.record.fresh_disk_base is not None or listed.paths.disk.exists(),
        base=base if base and not base.exists() else None,
        refetch=image.pinned,
    )


def _autostart(context: Context) -> Check:
    try:
        services = login_service.installed(context)
    except OSError as error:
        problem = f"{error.filename} cannot be read: {error.strerror}"
        return warning("autostart", problem, "make it readable for this user")
    gone = {program for program in services.values() if not os.access(program, os.X_OK)}
    return checks.autostart_check(services, gone, lingers=lingers(context.user))


def _certificates(context: Context) -> Check:
    variable = checks.certificates_variable(context.environment)
    return checks.certificates_check(variable, readable=variable is not None and os.access(variable[1], os.R_OK))


def _known_moments(listing: Listing, context: Context) -> list[datetime]:
    moments = [listed.record.config.created for listed in listing.machines]
    for base in image_cache(context).bases():
        with contextlib.suppress(ValueError):
            fetched = datetime.fromisoformat(base.fetched)
            moments.append(fetched if fetched.tzinfo else fetched.replace(tzinfo=UTC))
    return moments
