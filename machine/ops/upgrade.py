"""`machine upgrade` and `machine os`: upgrade the OS of a running guest by scripts that run in the guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from machine import __version__, runner
from machine.errors import GuestError, MachineError, ProgramError
from machine.ignition import assets
from machine.model.guest_os import (
    ASK_FAMILY,
    Family,
    GuestOS,
    UpgradeCheck,
    parse_check,
    parse_guest_os,
    parse_os_image,
)
from machine.model.provider import Capability
from machine.ops.restart import restart as restart_machine
from machine.ops.shared.capability import require
from machine.ops.shared.context import Context
from machine.ops.shared.target import running_target
from machine.ops.wake import wake
from machine.report import Reporter
from machine.ssh.command import ROOT, SSH_FAILED, SshTarget, script_argv, session_argv

_ASK_S = 120.0
# This is long enough for a whole image over a slow connection, or for all packages in an emulated guest.
_UPGRADE_S = 4 * 3600.0
_RESTART = "restart"


@dataclass(frozen=True, kw_only=True)
class Upgraded:
    """The result of an upgrade. If `needs_restart` is set, the guest gets the new OS only at its next start."""

    needs_restart: bool
    restarted: bool


@dataclass(frozen=True, kw_only=True)
class _Guest:
    name: str
    target: SshTarget
    os: GuestOS


def upgrade(name: str, context: Context, report: Reporter, *, restart: bool) -> Upgraded:
    """Upgrade the guest's OS. With `restart`, restart the machine afterwards if the upgrade needs it.

    Raises:
        NotFoundError: there is no such machine.
        ProgramError: the upgrade failed in the guest.
        MachineError: the machine is not running, cannot be reached, or has an OS that we cannot upgrade.
    """
    wake(name, context, report)
    guest = _find_guest(name, context)
    if guest.os.family is Family.OTHER:
        raise MachineError(
            f'"{name}" runs {guest.os.name}, which this program cannot upgrade',
            hint=f"upgrade the OS yourself: machine ssh --username root {name}",
        )
    report.step(f'Upgrading {guest.os.name} in "{name}"')
    return _carry_out(guest, ["upgrade"], context, report, restart=restart)


def upgrade_image(name: str, context: Context, report: Reporter, *, restart: bool) -> Upgraded:
    """Upgrade the guest's OS as `upgrade` does, but only if the OS is image-based.

    Raises:
        NotFoundError: there is no such machine.
        ProgramError: the upgrade failed in the guest.
        MachineError: the machine is not running, cannot be reached, or has an OS that is not image-based.
    """
    wake(name, context, report)
    guest = _find_image_guest(name, context)
    report.step(f'Upgrading {guest.os.name} in "{name}"')
    return _carry_out(guest, ["upgrade"], context, report, restart=restart)


def apply_image(image: str, name: str, context: Context, report: Reporter, *, restart: bool) -> Upgraded:
    """Switch the guest to another OS image.

    Raises:
        BadInputError: `image` is not an image reference.
        NotFoundError: there is no such machine.
        ProgramError: the switch failed in the guest.
        MachineError: the machine is not running, cannot be reached, or has an OS that is not image-based.
    """
    os_image = parse_os_image(image)
    wake(name, context, report)
    guest = _find_image_guest(name, context)
    report.step(f'Applying {image} to "{name}"')
    return _carry_out(guest, ["apply", os_image.transport, os_image.name], context, report, restart=restart)


def check_upgrade(name: str, context: Context) -> UpgradeCheck:
    """Check whether there is a newer version of the guest's image, without changing anything.

    Raises:
        NotFoundError: there is no such machine.
        ProgramError: the check failed in the guest.
        MachineError: the machine is not running, cannot be reached, or has an OS that is not image-based.
    """
    return parse_check(_run_script(_find_image_guest(name, context), ["check"]))


def check_document(check: UpgradeCheck) -> dict[str, Any]:
    """Return the result of a check as Podman's JSON.

    The `version` of `host` is that of this program, and the `version` of `machine` is that of the guest's OS.
    """
    return {
        "host": {"version": __version__},
        "machine": {
            "current_hash": check.current_hash,
            "new_hash": check.new_hash,
            "version": check.version,
            "inband_update_available": check.available,
        },
    }


def _find_guest(name: str, context: Context) -> _Guest:
    require(name, Capability.UPGRADE, context)
    target = running_target(name, ROOT, context)
    try:
        answer = runner.run(session_argv(target, [ASK_FAMILY]), timeout_s=_ASK_S).stdout
    except MachineError as error:
        raise GuestError(f'cannot find out which OS "{name}" runs: {error.message}') from error
    return _Guest(name=name, target=target, os=parse_guest_os(answer))


def _find_image_guest(name: str, context: Context) -> _Guest:
    guest = _find_guest(name, context)
    if guest.os.family is not Family.OSTREE:
        raise MachineError(
            f'unsupported OS: "{name}" runs {guest.os.name}, which is not an image-based OS',
            hint=f"upgrade its packages with: machine upgrade {name}" if guest.os.family is Family.APT else None,
        )
    return guest


def _carry_out(guest: _Guest, words: list[str], context: Context, report: Reporter, *, restart: bool) -> Upgraded:
    try:
        output = _run_script(guest, words)
    except KeyboardInterrupt:
        report.notice(f'The upgrade continues in the guest of "{guest.name}"')
        raise
    needs_restart = output.split()[-1:] == [_RESTART]
    if needs_restart and restart:
        restart_machine(guest.name, context, report)
    return Upgraded(needs_restart=needs_restart and not restart, restarted=needs_restart and restart)


def _run_script(guest: _Guest, words: list[str]) -> str:
    """Run our upgrade script for the guest's OS in the guest, and return the script's standard output.

    The script's standard error appears on our standard error at once.
    """
    script = assets.load(f"files/upgrade-{guest.os.family}.sh")
    done = runner.stream(script_argv(guest.target, words), stdin=script, timeout_s=_UPGRADE_S)
    if done.returncode == SSH_FAILED:
        raise GuestError(
            f'the connection to the guest of "{guest.name}" was lost', hint=f"see: machine logs {guest.name}"
        )
    if done.returncode != 0:
        raise ProgramError(
            f'unable to {words[0]} the OS of "{guest.name}": '
            f"the guest's tools failed with exit status {done.returncode}",
            returncode=done.returncode,
            hint="see the messages above",
        )
    return done.stdout
