"""Part of `machine doctor`: check QEMU, firmware, SSH, and the program and keys that verify images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from machine import runner
from machine.errors import MachineError
from machine.folders.probe import max_open_files, probe_transports
from machine.folders.sources import probe_sources
from machine.folders.transports import host_obstacles
from machine.guestimage.publish import SECRET_KEY
from machine.image.verify import find_checker, trusted_keys, unusable_keys
from machine.model.arch import Arch
from machine.model.doctor_check import Check, failure, failure_from, ok, warning
from machine.model.folders import Folder
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS, Installer
from machine.model.obstacle import Obstacle
from machine.model.settings import Settings
from machine.model.transport import Transport, TransportChoice
from machine.ops.shared.context import Context
from machine.ops.shared.creation import guest_uid
from machine.qemu.accelerator import (
    CONFIGURE_ACCELERATOR,
    HardwareSupport,
    QemuFacts,
    check_network,
    check_qemu,
    check_version,
    choose_accelerator,
    slowness,
)
from machine.qemu.boards import BOARDS
from machine.qemu.firmware import FirmwareFiles, find_firmware
from machine.qemu.img import QemuImg
from machine.qemu.probe import find_qemu, folder_devices, probe_hardware, probe_qemu
from machine.ssh.client import Client, find_client
from machine.store.paths import config_home

_TIMEOUT_S = 10

# This is about as many files as a source tree has with its dependencies. systemd's default limit is 524,288.
_ENOUGH_FILES = 65_536

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


def qemu_checks(context: Context, settings: Settings) -> Iterator[Check]:
    """Check QEMU for this host's own architecture, and for each other architecture that QEMU is installed for."""
    host = context.host
    try:
        arch = Arch.parse(host.machine)
    except ValueError:
        yield architecture_check(host, None)
        return
    yield architecture_check(host, arch)
    try:
        facts = probe_qemu(find_qemu(arch, host), patience=settings.patience)
    except MachineError as error:
        yield failure_from("qemu", error, host.install_hint(BOARDS[arch].packages, f"another {BOARDS[arch].binary}"))
    else:
        yield qemu_check(facts, arch, host)
        yield network_check(facts, arch, host)
        yield accelerator_check(settings.accel, arch, host, probe_hardware(host, facts), facts)
        yield firmware_check(arch, _firmware(arch, facts.path, context), native=True)
        obstacles = _folder_obstacles(facts, arch, context, settings.patience)
        yield folders_check(obstacles, host, max_open_files(), is_root=context.uid == 0)
    for foreign in Arch:
        if foreign is not arch and (path := runner.find_program(BOARDS[foreign].binary)):
            yield _foreign(foreign, path, context, settings.patience)


def _folder_obstacles(qemu: QemuFacts, arch: Arch, context: Context, patience: int) -> dict[Transport, Obstacle]:
    """Return the transports of folders that this host cannot use, each with the reason."""
    sample = Folder(source="/", target="/nowhere")
    uid = guest_uid(context.uid)
    facts = probe_transports(TransportChoice.AUTO, probe_sources([sample]), guest_uid=uid, host=context.host)
    return host_obstacles(
        TransportChoice.AUTO, facts.with_devices(folder_devices(qemu, arch, patience=patience)), sample
    )


def _foreign(arch: Arch, binary: str, context: Context, patience: int) -> Check:
    """Check QEMU for another architecture. A problem is only a warning, because the host's architecture is enough."""
    host, board = context.host, BOARDS[arch]
    try:
        check_qemu(probe_qemu(binary, patience=patience), arch, host)
    except MachineError as error:
        remedy = error.hint or host.install_hint(board.packages, f"another {board.binary}")
        return warning(f"qemu {arch}", error.message, remedy)
    return firmware_check(arch, _firmware(arch, binary, context), native=False)


def _firmware(arch: Arch, binary: str, context: Context) -> FirmwareFiles | MachineError | None:
    try:
        return find_firmware(
            arch, context.host, binary=binary, config_home=config_home(context.environment, context.home)
        )
    except MachineError as error:
        return error


def qemu_img_check(host: Host) -> Check:
    """Check qemu-img, the program that makes disks."""
    return _program("qemu-img", QemuImg.program, host.install_hint(QEMU_IMG, "qemu-img"))


def _program(name: str, program: str, remedy: str) -> Check:
    """Check that a required program is installed and prints its version. If it is missing, the remedy is `remedy`."""
    try:
        output = runner.run([program, "--version"], timeout_s=_TIMEOUT_S).stdout
    except MachineError as error:
        return failure_from(name, error, _install_or_repair(program, remedy))
    first, _, _ = output.strip().partition("\n")
    return ok(name, f"{shutil.which(program)}, {first}")


def installed_ssh_check(host: Host) -> Check:
    """Find OpenSSH's client and check its version and options."""
    try:
        return ssh_check(find_client())
    except MachineError as error:
        return failure_from("ssh", error, _install_or_repair("ssh", host.install_hint(OPENSSH, "OpenSSH's client")))


def _install_or_repair(program: str, install: str) -> str:
    """Return the remedy for a program that does not run.

    If the program is missing, the remedy is `install`. Otherwise, the remedy is to repair the program.
    """
    path = shutil.which(program)
    return f"repair or reinstall {path}" if path else install


def signature_checks(context: Context) -> Iterator[Check]:
    """Check the program that verifies the signatures of images, and the trusted keys."""
    remedy = context.host.install_hint(GPGV, "gpgv or sqv")
    try:
        yield _program("signatures", find_checker().program, remedy)
    except MachineError as error:
        yield failure_from("signatures", error, remedy)
    directory = context.roots.signing_keys
    # The directory of the trusted keys also has the secret key that signs images built here.
    unusable = [path for path in unusable_keys(directory) if path.name != SECRET_KEY]
    yield keys_check(0 if unusable else len(trusted_keys(directory)), unusable, directory)


def architecture_check(host: Host, arch: Arch | None) -> Check:
    """Judge whether guests can have the host's architecture. `arch` is None if they cannot."""
    if arch is None:
        return failure(
            "architecture",
            f"this host's architecture, {host.machine}, is not supported for guests",
            f"use a host with one of: {', '.join(Arch)}",
        )
    return ok("architecture", f"{host.os} on {host.machine}; guests have the same architecture")


def qemu_check(facts: QemuFacts, arch: Arch, host: Host) -> Check:
    """Judge whether QEMU's version is new enough."""
    try:
        check_version(facts, arch, host)
    except MachineError as error:
        return failure_from("qemu", error)
    return ok("qemu", f"{facts.path}, version {facts.dotted}")


def network_check(facts: QemuFacts, arch: Arch, host: Host) -> Check:
    """Judge whether QEMU has user networking, which machines need."""
    try:
        check_network(facts, arch, host)
    except MachineError as error:
        return failure_from("network", error)
    return ok("network", "QEMU has user networking")


def accelerator_check(
    choice: AcceleratorChoice, arch: Arch, host: Host, support: HardwareSupport, facts: QemuFacts
) -> Check:
    """Judge the accelerator for machines of the host's own architecture. Slow emulation is a warning."""
    try:
        chosen = choose_accelerator(choice, arch, host, support, facts, otherwise=CONFIGURE_ACCELERATOR)
    except MachineError as error:
        return failure_from("accelerator", error)
    if chosen.accelerator is Accelerator.TCG:
        finding = f"guests are emulated (tcg) and {slowness(arch, host)} times slower"
        if not chosen.obstacle:
            return ok("accelerator", f"{finding}, as configured")
        return warning("accelerator", f"{finding}: {chosen.obstacle.reason}", chosen.obstacle.remedy)
    return ok("accelerator", f"{chosen.accelerator} works")


def firmware_check(arch: Arch, found: FirmwareFiles | MachineError | None, *, native: bool) -> Check:
    """Judge the UEFI firmware that was found for guests of this architecture. `found` is None if they need no firmware.

    Missing firmware is a failure if the architecture is `native`, the host's own. Otherwise it is a warning.
    """
    name = "firmware" if native else f"firmware {arch}"
    match found:
        case None:
            return ok(name, f"{arch} guests need no UEFI firmware")
        case FirmwareFiles():
            return ok(name, str(found.code))
        case MachineError() if native:
            return failure_from(name, found)
        case MachineError():
            return warning(name, found.message, found.hint)


def folders_check(
    obstacles: Mapping[Transport, Obstacle], host: Host, max_files: int, *, is_root: bool = False
) -> Check:
    """Judge whether machines can share this host's folders, and how fast.

    `obstacles` has the transports that do not work on this host, and why. The transport virtiofs is several times
    faster than the others. Its program virtiofsd keeps a file open for each file in the guest's cache, and the host
    lets virtiofsd open at most `max_files` files. If that is too few for root, a container or service is the limit.
    """
    usable = [transport.value for transport in Transport if transport not in obstacles]
    obstacle = obstacles.get(Transport.VIRTIOFS)
    remedy = obstacle.remedy if obstacle else None
    if not usable:
        reasons = "; ".join(str(obstacles[transport]) for transport in Transport)
        remedy = remedy or host.install_hint({Installer.BREW: "qemu"}, "a QEMU that has 9p")
        return warning("folders", f"machines cannot share folders of this host: {reasons}", remedy)
    finding = f"machines can share folders of this host through {', '.join(usable)}"
    if obstacle and host.os is HostOS.LINUX:
        return warning(
            "folders", f"{finding}, but not through virtiofs: {obstacle}", remedy or f"{usable[0]} works, but is slower"
        )
    if not obstacle and max_files < _ENOUGH_FILES:
        few = f"{finding}; virtiofs may run out of open files in folders of more than {max_files} files"
        where = "of the container or service in which this runs" if is_root else "(limits.conf(5))"
        return warning("folders", few, f"raise the hard limit nofile {where}{_instead_of_virtiofs(obstacles)}")
    return ok("folders", finding)


def _instead_of_virtiofs(obstacles: Mapping[Transport, Obstacle]) -> str:
    """Return the end of a remedy for virtiofs, which offers another transport, or an empty string if no other works."""
    if Transport.NINEP not in obstacles:
        return ", or use: machine set --volume-driver 9p NAME"
    if Transport.SSHFS not in obstacles:
        return ", or, if the guest has sshfs, use: machine set --volume-driver sshfs NAME"
    return ""


def ssh_check(client: Client) -> Check:
    """Judge whether OpenSSH's client on this host can forward Unix sockets."""
    if client.obstacle:
        return failure(
            "ssh",
            f"{client.path} ({client.version}) cannot forward Unix sockets: {client.obstacle}",
            "upgrade it, or put the directory of a newer OpenSSH first on PATH",
        )
    return ok("ssh", f"{client.path}, {client.version}")


def keys_check(count: int, unusable: Sequence[Path], directory: Path) -> Check:
    """Judge the keys that are trusted to sign images.

    `count` is the number of these keys. `directory` is where the user keeps more keys. `unusable` holds the files there
    that contain no key.
    """
    if unusable:
        names = ", ".join(path.name for path in unusable)
        remedy = f"repair the file, or remove it from {directory}"
        return warning("keys", f"there is no OpenPGP public key in {names}", remedy)
    if not count:
        return failure("keys", "Fedora's keys are missing from this program", "reinstall boot2podman")
    return ok("keys", f"{count} signing keys are trusted")
