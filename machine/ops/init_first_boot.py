"""Read and check what the user gives a new guest: an Ignition config, scripts, keys and so on."""

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

# Our own image has Debian's Ignition, which supports version 3.3.0.
_LOCAL_SPECIFICATION = 3


@dataclass(frozen=True, kw_only=True)
class FirstBootRequest:
    """The first-boot options of `machine init`; None means that the option was not given.

    The Ignition config, the scripts and the playbook are either given as paths, or have been read from their files
    already. The path of a script is `[user:]PATH`. A variable is `NAME=VALUE` or `NAME`. An SSH key is a public key, or
    the path of a file that contains public keys.
    """

    ignition: str | UserIgnition | None = None
    ignition_replaces: bool | None = None
    scripts: tuple[str | Script, ...] | None = None
    playbook: str | Script | None = None
    environment: tuple[str, ...] | None = None
    ssh_keys: tuple[str, ...] | None = None
    hostname: str | None = None


def read_first_boot(request: FirstBootRequest, environment: Mapping[str, str]) -> FirstBoot:
    """Read and check the files and texts of the request.

    A variable without a value gets the value that it has in `environment`, which is this process's environment.

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
        BadInputError: the file cannot be read, or something in it is invalid.
        MachineError: the file is a Butane file, but butane is not installed.
    """
    return load(path)


def read_script(text: str) -> Script:
    """Read a script from `PATH` or `user:PATH`. To read a file whose name begins with `user:`, write `./user:…`.

    Raises:
        BadInputError: the script cannot be read, or cannot run because of its Windows line endings.
    """
    path = Path(_named(text.removeprefix(USER_PREFIX), "script"))
    script = Script(name=_name_of(path), text=read_text(path), as_user=text.startswith(USER_PREFIX))
    first = script.text.partition("\n")[0]
    if first.startswith("#!") and first.endswith("\r"):
        raise BadInputError(
            f"the script {path} has Windows line endings, so the guest cannot run it",
            hint=f"fix the script with: sed -i 's/\\r$//' {path}",
        )
    return script


def read_playbook(path: Path) -> Script:
    """Read an Ansible playbook.

    Raises:
        BadInputError: the playbook cannot be read, or is not text.
    """
    return Script(name=_name_of(path), text=read_text(path), as_user=True)


def _named(text: str, what: str) -> str:
    """Return the path `text`. An empty text is an error, because Path would take it for the current directory."""
    if not text:
        raise BadInputError(f"the {what} must not be empty")
    return text


def _name_of(path: Path) -> str:
    """Return a file's name in UTF-8, for messages and records."""
    return os.fsencode(path.name).decode(errors="replace")


def read_ssh_keys(texts: Sequence[str]) -> tuple[str, ...]:
    """Read public keys, each given as the key itself or as the path of a file that contains keys.

    Raises:
        BadInputError: a text is neither a public key nor the path of a readable file that contains only public keys.
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
    """Check that the user's Ignition config does not conflict with `root` and `username`, the users that we log in as.

    Raises:
        BadInputError: the config removes `root` or `username`, or changes the uid of one of them. Or it gives a group
            or another user a name or an id that belongs to `username`.
    """
    passwd = json.loads(ignition.text).get("passwd") or {}
    for group in passwd.get("groups") or ():
        # Ignition makes groups before users. Making the user would then fail, because the user's group exists already.
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
            raise BadInputError(
                f"{ignition.name} removes the user {user['name']}, but this program has to log in as {user['name']}"
            )
        if user["name"] == username and user.get("uid") not in (None, uid):
            raise BadInputError(
                f"{ignition.name} gives the user {username} the uid {user['uid']}, but {uid} is needed",
                hint=f"leave out the uid of {username}",
            )


def _check_other(user: Mapping[str, Any], config_name: str, username: str, uid: int) -> None:
    """Check a user of the Ignition config who is neither `root` nor `username`.

    The first boot fails if this user has the uid of `username`. It also fails if this user has the default username,
    because then `username` is another name.
    """
    if user.get("shouldExist") is False:
        return
    if user["name"] == DEFAULT_USERNAME:
        raise BadInputError(
            f"{config_name} defines the user {DEFAULT_USERNAME}, but in this machine that user is called {username}",
            hint=f"rename this user to {username}, or leave out --username",
        )
    if user.get("uid") == uid:
        raise BadInputError(
            f"{config_name} gives the user {user['name']} the uid {uid}, which belongs to {username}",
            hint=f"give {user['name']} another uid",
        )


def check_together(
    first_boot: FirstBoot, swap_mib: int, reference: str, provisioning: Provisioning = Provisioning.IGNITION
) -> None:
    """Check that the options can be used together and with this image.

    Raises:
        BadInputError: one of the options would have no effect, or would fail in the guest.
    """
    if first_boot.ignition:
        _check_image_takes(first_boot.ignition, reference, provisioning)
        if first_boot.ignition.replaces:
            _check_nothing_lost(first_boot.ignition, first_boot, swap_mib)
    has_ansible = reference != LOCAL_STREAM and not reference.startswith("fcos:")
    if first_boot.playbook and not first_boot.scripts and not has_ansible:
        raise BadInputError(
            f"the image {reference} has no Ansible to run {first_boot.playbook.name}",
            hint="install Ansible by a script with --provision, or use an image that has Ansible",
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
            hint=f"convert the config to version 3.{_LOCAL_SPECIFICATION}.0",
        )


def _check_nothing_lost(ignition: UserIgnition, first_boot: FirstBoot, swap_mib: int) -> None:
    """Refuse options that would have no effect in a guest that gets only the user's Ignition config."""
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
            f"with --ignition-replace the guest gets only {ignition.name}, so {lost} would have no effect",
            hint=f"leave out --ignition-replace, or {lost}",
        )
