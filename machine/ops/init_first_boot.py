"""What the user gives a new guest: Ignition config, scripts, keys and so on, read and checked."""

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

# The Ignition in our own image, Debian's, supports version 3.3.0.
_LOCAL_SPECIFICATION = 3


@dataclass(frozen=True, kw_only=True)
class FirstBootRequest:
    """The first-boot options of `machine init`; None means that the option was not given.

    The Ignition config, scripts and the playbook are paths (of scripts: `[user:]PATH`) or already read. Variables are
    `NAME=VALUE` or `NAME`, SSH keys are keys or paths of files that contain some.
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
        BadInputError: something cannot be read or is invalid.
        MachineError: the Ignition config is a Butane file, but butane is not installed.
    """
    ignition = request.ignition
    replaces = bool(request.ignition_replaces)
    if isinstance(ignition, str):
        ignition = read_ignition(Path(ignition))
    if replaces and ignition is None:
        raise BadInputError("--ignition-replace needs an Ignition config", hint="add --ignition-path FILE")
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
    """Read and check an Ignition config or a Butane file.

    Raises:
        BadInputError: it cannot be read, or something in it is wrong.
        MachineError: it is a Butane file, but butane is not installed.
    """
    return load(path)


def read_script(text: str) -> Script:
    """Read a script from `PATH` or `user:PATH`; a file whose name begins with `user:` is written `./user:…`.

    Raises:
        BadInputError: it cannot be read, or no guest can run it.
    """
    path = Path(_named(text.removeprefix(USER_PREFIX), "script"))
    script = Script(name=_name_of(path), text=read_text(path), as_user=text.startswith(USER_PREFIX))
    first = script.text.partition("\n")[0]
    if first.startswith("#!") and first.endswith("\r"):
        raise BadInputError(
            f"{path} has Windows line endings, so no guest can find its interpreter",
            hint=f"fix it with: sed -i 's/\\r$//' {path}",
        )
    return script


def read_playbook(path: Path) -> Script:
    """Read an Ansible playbook.

    Raises:
        BadInputError: it cannot be read, or is not text.
    """
    return Script(name=_name_of(path), text=read_text(path), as_user=True)


def _named(text: str, what: str) -> str:
    """Refuse an empty path, which Path would take for the current directory."""
    if not text:
        raise BadInputError(f"the {what} must not be empty")
    return text


def _name_of(path: Path) -> str:
    """Return a file's name in UTF-8, for messages and records."""
    return os.fsencode(path.name).decode(errors="replace")


def read_ssh_keys(texts: Sequence[str]) -> tuple[str, ...]:
    """Read public keys, each given as the key itself or as the path of a file that contains some.

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
            raise BadInputError(f"{text} is not a public SSH key", hint="use a file such as ~/.ssh/id_ed25519.pub")
        keys += found
    return tuple(dict.fromkeys(keys))


def check_users(ignition: UserIgnition, username: str, uid: int) -> None:
    """Check that the user's Ignition config does not conflict with the users as which we log in: root and `username`.

    Raises:
        BadInputError: it removes or changes one of them, or uses their group name, uid or gid for another.
    """
    passwd = json.loads(ignition.text).get("passwd") or {}
    for group in passwd.get("groups") or ():
        # Ignition makes groups first. Making the user would then fail, because its own group exists already.
        if group["name"] == username or group.get("gid") == uid:
            raise BadInputError(
                f"{ignition.name} defines the group {group['name']} with the name or gid of {username}'s own group",
                hint="remove the group, or give it another name and gid",
            )
    for user in passwd.get("users") or ():
        if user["name"] not in (username, ROOT):
            _check_other(user, ignition.name, username, uid)
            continue
        if user.get("shouldExist") is False:
            raise BadInputError(f"{ignition.name} removes the user {user['name']}, which this program logs in as")
        if user["name"] == username and user.get("uid") not in (None, uid):
            raise BadInputError(
                f"{ignition.name} gives the user {username} the uid {user['uid']}, but it must be this host's {uid}",
                hint="leave the uid out",
            )


def _check_other(user: Mapping[str, Any], config_name: str, username: str, uid: int) -> None:
    """Check another user: with a uid that is taken, or the name of the renamed default user, the first boot fails."""
    if user.get("shouldExist") is False:
        return
    if user["name"] == DEFAULT_USERNAME:
        raise BadInputError(
            f"{config_name} defines the user {DEFAULT_USERNAME}, which is called {username} in this machine",
            hint=f"rename it to {username}, or leave out --username",
        )
    if user.get("uid") == uid:
        raise BadInputError(
            f"{config_name} gives the user {user['name']} the uid {uid}, which {username} has", hint="use another uid"
        )


def check_together(
    first_boot: FirstBoot, swap_mib: int, reference: str, provisioning: Provisioning = Provisioning.IGNITION
) -> None:
    """Check that the options can be used together and with this image.

    Raises:
        BadInputError: one of them would have no effect, or would fail in the guest.
    """
    if first_boot.ignition:
        _check_image_takes(first_boot.ignition, reference, provisioning)
        if first_boot.ignition.replaces:
            _check_nothing_lost(first_boot.ignition, first_boot, swap_mib)
    has_ansible = reference != LOCAL_STREAM and not reference.startswith("fcos:")
    if first_boot.playbook and not first_boot.scripts and not has_ansible:
        raise BadInputError(
            f"the image {reference} has no Ansible to run {first_boot.playbook.name}",
            hint="install it by a script with --provision, or use an image that has it",
        )


def _check_image_takes(ignition: UserIgnition, reference: str, provisioning: Provisioning) -> None:
    if provisioning is not Provisioning.IGNITION:
        raise BadInputError(
            f"{reference} is provisioned by {provisioning}, which does not use an Ignition config",
            hint="leave out --ignition-path, or use a script with --provision",
        )
    if reference == LOCAL_STREAM and minor_version(ignition.text) > _LOCAL_SPECIFICATION:
        raise BadInputError(
            f"{ignition.name} has version 3.{minor_version(ignition.text)}.0, but the Ignition in the image "
            f"{LOCAL_STREAM} supports only versions up to 3.{_LOCAL_SPECIFICATION}.0",
            hint=f"convert it to 3.{_LOCAL_SPECIFICATION}.0",
        )


def _check_nothing_lost(ignition: UserIgnition, first_boot: FirstBoot, swap_mib: int) -> None:
    """Check that nothing else is asked for, where the guest gets the user's Ignition config alone."""
    others = {
        "--provision": first_boot.scripts,
        "--playbook": first_boot.playbook,
        "--env": first_boot.environment,
        "--ssh-authorized-key": first_boot.ssh_keys,
        "--hostname": first_boot.hostname,
        "--swap": swap_mib,
    }
    lost = next((flag for flag, given in others.items() if given), None)
    if lost:
        raise BadInputError(
            f"with --ignition-replace the guest gets only {ignition.name}: {lost} would have no effect",
            hint="leave one of them out",
        )
