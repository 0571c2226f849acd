"""What a user gives a new guest, from files and words to values; nothing is made of it yet."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from machine.errors import BadInputError
from machine.ignition.lint import minor_version
from machine.ignition.user_config import load, read_text
from machine.image.reference import LOCAL_STREAM
from machine.model.config import DEFAULT_USERNAME, FirstBoot, Provisioning, Script, UserIgnition
from machine.model.first_boot import USER_PREFIX, check_hostname, is_ssh_key, parse_variables
from machine.ssh.command import ROOT

# Of Debian's Ignition, which the image boot2podman has.
_LOCAL_SPECIFICATION = 3


@dataclass(frozen=True, kw_only=True)
class FirstBootRequest:
    """What a user gives a new guest, as it was asked for; None is nothing.

    The Ignition config, scripts and the playbook come by their paths or whole, scripts by `[user:]PATH`. Variables are
    `NAME=VALUE` or `NAME`, keys are themselves or paths of files that have some.
    """

    ignition: str | UserIgnition | None = None
    ignition_replaces: bool | None = None
    scripts: tuple[str | Script, ...] | None = None
    playbook: str | Script | None = None
    environment: tuple[str, ...] | None = None
    ssh_keys: tuple[str, ...] | None = None
    hostname: str | None = None


def read_first_boot(request: FirstBootRequest, environment: Mapping[str, str]) -> FirstBoot:
    """Read and check everything; `environment` is this host's, for variables without a value.

    Raises:
        BadInputError: something cannot be read, or is not what it should be.
        MachineError: the Ignition config is Butane's, and butane is not installed.
    """
    ignition = request.ignition
    replaces = bool(request.ignition_replaces)
    if isinstance(ignition, str):
        ignition = read_ignition(Path(ignition))
    if replaces and ignition is None:
        raise BadInputError("--ignition-replace needs a config that replaces ours", hint="add --ignition-path FILE")
    scripts = request.scripts or ()
    playbook = request.playbook
    return FirstBoot(
        ignition=replace(ignition, replaces=replaces) if ignition else None,
        scripts=tuple(read_script(script) if isinstance(script, str) else script for script in scripts),
        playbook=read_playbook(Path(playbook)) if isinstance(playbook, str) else playbook,
        environment=parse_variables(request.environment or (), environment),
        ssh_keys=read_ssh_keys(request.ssh_keys or ()),
        hostname=check_hostname(request.hostname) if request.hostname else None,
    )


def read_ignition(path: Path) -> UserIgnition:
    """Raises:
    BadInputError: it cannot be read, or something in it is wrong.
    MachineError: it is Butane's, and butane is not there.
    """
    return load(path)


def read_script(text: str) -> Script:
    """A script from `PATH` or `user:PATH`; a file whose own name begins with `user:` is `./user:…`.

    Raises:
        BadInputError: it cannot be read, or nothing can run it.
    """
    path = Path(_named(text.removeprefix(USER_PREFIX), "script"))
    script = Script(name=_name_of(path), text=read_text(path), as_user=text.startswith(USER_PREFIX))
    first = script.text.partition("\n")[0]
    if first.startswith("#!") and first.endswith("\r"):
        raise BadInputError(
            f"{path} has the line ends of Windows, with which no guest finds what runs it",
            hint=f"mend it with: sed -i 's/\\r$//' {path}",
        )
    return script


def read_playbook(path: Path) -> Script:
    """Raises:
    BadInputError: it cannot be read, or is no text.
    """
    return Script(name=_name_of(path), text=read_text(path), as_user=True)


def _named(text: str, what: str) -> str:
    """To a Path, an empty text would be the directory here."""
    if not text:
        raise BadInputError(f"there is no {what} in an empty text")
    return text


def _name_of(path: Path) -> str:
    """For people and for records, which are UTF-8."""
    return os.fsencode(path.name).decode(errors="replace")


def read_ssh_keys(texts: Sequence[str]) -> tuple[str, ...]:
    """Public keys, each as itself or as the path of a file that has some.

    Raises:
        BadInputError: one is neither.
    """
    keys: list[str] = []
    for text in texts:
        if is_ssh_key(text.strip()):
            keys.append(text.strip())
            continue
        lines = [line.strip() for line in read_text(Path(_named(text, "key"))).splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found or not all(is_ssh_key(line) for line in found):
            raise BadInputError(f"{text} has no public key of SSH", hint="give a file like ~/.ssh/id_ed25519.pub")
        keys += found
    return tuple(dict.fromkeys(keys))


def check_users(ignition: UserIgnition, username: str, uid: int) -> None:
    """Whether the users that a machine is reached as stay what it takes them for.

    Raises:
        BadInputError: they do not.
    """
    passwd = json.loads(ignition.text).get("passwd") or {}
    for group in passwd.get("groups") or ():
        # Made before the users: the user would not get its own, and without it not be made at all.
        if group["name"] == username or group.get("gid") == uid:
            raise BadInputError(
                f"{ignition.name} has the group {group['name']}, in the place of which {username} gets its own",
                hint="leave it out, or give it another name and gid",
            )
    for user in passwd.get("users") or ():
        if user["name"] not in (username, ROOT):
            _check_other(user, ignition.name, username, uid)
            continue
        if user.get("shouldExist") is False:
            raise BadInputError(f"{ignition.name} removes the user {user['name']}, as whom the guest is reached")
        if user["name"] == username and user.get("uid") not in (None, uid):
            raise BadInputError(
                f"{ignition.name} gives the user {username} the uid {user['uid']}, and this host's user has {uid}",
                hint="leave it out",
            )


def _check_other(user: Mapping[str, Any], called: str, username: str, uid: int) -> None:
    """With two of a number, and beside a user who is removed, a first boot ends in an emergency shell."""
    if user.get("shouldExist") is False:
        return
    if user["name"] == DEFAULT_USERNAME:
        raise BadInputError(
            f"{called} has the user {DEFAULT_USERNAME}, whose place {username} takes in this machine",
            hint=f"write {username} there, or leave out --username",
        )
    if user.get("uid") == uid:
        raise BadInputError(
            f"{called} gives the user {user['name']} the uid {uid}, which {username} has", hint="give it another"
        )


def check_together(
    first_boot: FirstBoot, swap_mib: int, reference: str, provisioning: Provisioning = Provisioning.IGNITION
) -> None:
    """What the parts cannot be beside each other, and beside such an image.

    Raises:
        BadInputError: one of them would be without effect, or would fail in the guest.
    """
    ignition = first_boot.ignition
    if ignition and provisioning is not Provisioning.IGNITION:
        raise BadInputError(
            f"{reference} is provisioned by {provisioning}, which reads no Ignition config",
            hint="leave out --ignition-path, or do the same by --provision",
        )
    if ignition and ignition.replaces:
        others = {
            "--provision": first_boot.scripts,
            "--playbook": first_boot.playbook,
            "--env": first_boot.environment,
            "--ssh-authorized-key": first_boot.ssh_keys,
            "--hostname": first_boot.hostname,
            "--swap": swap_mib,
        }
        lost = [flag for flag, given in others.items() if given]
        if lost:
            raise BadInputError(
                f"with --ignition-replace the guest gets {ignition.name} alone, and {lost[0]} would be without effect",
                hint="leave out one of the two",
            )
    is_local = reference == LOCAL_STREAM
    if ignition and is_local and minor_version(ignition.text) > _LOCAL_SPECIFICATION:
        raise BadInputError(
            f"{ignition.name} has version 3.{minor_version(ignition.text)}.0, and the Ignition of the image "
            f"{LOCAL_STREAM} knows versions up to 3.{_LOCAL_SPECIFICATION}.0",
            hint=f"write it for 3.{_LOCAL_SPECIFICATION}.0",
        )
    if first_boot.playbook and not first_boot.scripts and (is_local or reference.startswith("fcos:")):
        raise BadInputError(
            f"the image {reference} has no Ansible, which plays {first_boot.playbook.name}",
            hint="install it there by a script, with --provision, or take an image that has it",
        )
